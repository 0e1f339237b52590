"""Mixture of Contexts attention: routing every token to the contexts that matter to it."""

from mocgen_kernels.descriptors import pool_descriptors
from mocgen_kernels.layout import ContextLayout, Kind
from mocgen_kernels.ops import Backend, moc_attention, route, routed_attention
from mocgen_kernels.plan import AttentionInfo, attention_info
from mocgen_kernels.rules import Policy, TextAnchors
from mocgen_kernels.selection import Selection

__all__ = [
    "AttentionInfo",
    "Backend",
    "ContextLayout",
    "Kind",
    "Policy",
    "Selection",
    "TextAnchors",
    "attention_info",
    "moc_attention",
    "pool_descriptors",
    "route",
    "routed_attention",
]
