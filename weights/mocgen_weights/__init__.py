"""Model files: the catalogue, the Hub, safetensors reading, and the embedded checkpoint."""

from .catalog import CATALOG, CatalogEntry, embedded_folder, word_table_file
from .errors import WeightsError
from .files import load_tensors, read_folder, write_folder
from .hub import Resolved, resolve

__all__ = [
    "CATALOG",
    "CatalogEntry",
    "Resolved",
    "WeightsError",
    "embedded_folder",
    "load_tensors",
    "read_folder",
    "resolve",
    "word_table_file",
    "write_folder",
]
