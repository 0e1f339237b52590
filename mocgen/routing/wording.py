"""How numbers read in words."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share as percent: "61 %", "0.4 %", "0 %"."""
    if share == 0 or share >= 0.01:
        return f"{share * 100:.0f} %"
    return f"{share * 100:.1f} %" if share >= 0.0005 else "< 0.1 %"
