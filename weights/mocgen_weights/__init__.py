"""Model files: the catalogue, the Hub, safetensors reading, and the embedded checkpoint."""

from .catalog import CATALOG, CatalogEntry, embedded_folder
from .checkpoint import read_checkpoint
from .errors import WeightsError
from .files import load_tensors, read_folder, write_folder
from .hub import Resolved, resolve
from .loading import load_module
from .wan_names import wan_renaming

__all__ = [
    "CATALOG",
    "CatalogEntry",
    "Resolved",
    "WeightsError",
    "embedded_folder",
    "load_module",
    "load_tensors",
    "read_checkpoint",
    "read_folder",
    "resolve",
    "wan_renaming",
    "write_folder",
]
