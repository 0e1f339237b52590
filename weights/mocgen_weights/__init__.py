"""Model files: the catalogue, the Hub, safetensors reading, and the embedded checkpoint."""

from .cache import Hub, cached_bytes, find_cached, remove_cached
from .catalog import CATALOG, CatalogEntry, embedded_folder, find_entry, word_table_file
from .checkpoint import read_checkpoint
from .download import Fetching, Listing, OnFetching, list_repository
from .errors import WeightsError
from .files import load_tensors, read_folder, write_folder
from .hub import Resolved, hub_id, ignore, pull, resolve
from .hub_failures import Unreachable
from .loading import ModuleWeights, load_module, match_weights, put_tensor
from .lora import Lora, merge_lora, read_lora
from .repository import check_folder
from .wan_names import wan_renaming

__all__ = [
    "CATALOG",
    "CatalogEntry",
    "Fetching",
    "Hub",
    "Listing",
    "Lora",
    "ModuleWeights",
    "OnFetching",
    "Resolved",
    "Unreachable",
    "WeightsError",
    "cached_bytes",
    "check_folder",
    "embedded_folder",
    "find_cached",
    "find_entry",
    "hub_id",
    "ignore",
    "list_repository",
    "load_module",
    "load_tensors",
    "match_weights",
    "merge_lora",
    "pull",
    "put_tensor",
    "read_checkpoint",
    "read_folder",
    "read_lora",
    "remove_cached",
    "resolve",
    "wan_renaming",
    "word_table_file",
    "write_folder",
]
