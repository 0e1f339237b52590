"""`mocgen models`: what --model can be."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from mocgen.cli.options import Debug, Format


def models(format: Format = "human", debug: Debug = False) -> None:
    """List the models that --model knows by name; a hub id or a folder works too."""
    from mocgen_weights.catalog import CATALOG

    if format == "json":
        typer.echo(json.dumps([asdict(entry) for entry in CATALOG]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0))
    for heading in ("model", "does", "licence", "what it is"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for entry in CATALOG:
        table.add_row(entry.name, ", ".join(entry.tasks), entry.licence, entry.summary)
    Console(highlight=False).print(table)
