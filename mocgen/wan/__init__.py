"""Checkpoints of the Wan family, in the form of diffusers pipelines."""

from mocgen.wan.family import is_pipeline
from mocgen.wan.model import WanModel, load_pipeline

__all__ = ["WanModel", "is_pipeline", "load_pipeline"]
