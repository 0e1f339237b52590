"""`mocgen models`: what --model can be, and what of it lies on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mocgen.cli.options import Debug, Format, FormatName, Offline, Quiet
from mocgen.cli.wording import size_in_bytes
from mocgen.errors import UsageError

if TYPE_CHECKING:
    from mocgen_weights import CatalogEntry, Hub

EXAMPLES = """
Examples:
  mocgen models
  mocgen models pull wan2.1-t2v-1.3b
  mocgen models pull owner/name@v1.0
  mocgen models info wan2.2-ti2v-5b
  mocgen models rm wan2.1-t2v-1.3b
"""

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A name that `mocgen models` lists, or OWNER/NAME[@REVISION]."),
]
ModelOrFolder = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name, OWNER/NAME[@REVISION], or a model folder.")
]

app = typer.Typer(
    help="List, fetch and remove models.",
    epilog=EXAMPLES,
    invoke_without_command=True,
    rich_markup_mode="rich",
)


@app.callback()
def models(context: typer.Context, format: Format = "human", debug: Debug = False) -> None:
    """List the models that --model knows by name; a hub id or a folder works too."""
    if context.invoked_subcommand is None:
        list_models(format)


@app.command("list")
def list_models(format: Format = "human", debug: Debug = False) -> None:
    """List the models that --model knows by name, and what of them is on this machine."""
    from mocgen_weights import CATALOG, Hub

    rows = [(entry, _cached(entry, Hub())) for entry in CATALOG]
    if format == "json":
        typer.echo(
            json.dumps(
                [
                    asdict(entry) | {"bytes_in_bf16": entry.bytes_in_bf16, "cached_bytes": cached}
                    for entry, cached in rows
                ]
            )
        )
        return
    from rich.table import Table

    from mocgen.cli.console import result_console

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("model", "does", "bf16", "cached", "licence"):
        table.add_column(heading, header_style="dim", overflow="fold")
    for entry, cached in rows:
        weights = "" if entry.bytes_in_bf16 is None else size_in_bytes(entry.bytes_in_bf16)
        here = "built in" if not entry.repo else size_in_bytes(cached) if cached else "no"
        table.add_row(entry.name, ", ".join(entry.tasks), weights, here, entry.licence)
    console = result_console()
    console.print(table)
    console.print(
        "bf16: what the transformer's weights take; mocgen models info MODEL tells more", style="dim"
    )


@app.command()
def pull(
    model: Model,
    offline: Offline = False,
    format: Format = "human",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fetch a model to the Hub's cache; an interrupted transfer goes on where it stopped."""
    from mocgen.cli.fetching import show_fetching
    from mocgen_weights import Hub, find_entry
    from mocgen_weights import pull as fetch

    repo, revision = _repository(model)
    with show_fetching(quiet=quiet) as on_fetching:
        snapshot = fetch(repo, revision, Hub(offline=offline), on_fetching)
    entry = find_entry(repo)
    facts: dict[str, object] = {
        "repository": repo,
        "revision": snapshot.commit,
        "folder": str(snapshot.folder),
        "licence": entry.licence if entry else "",
        "page": entry.page if entry else "",
    }
    _print_facts(facts, format)


@app.command()
def info(
    model: ModelOrFolder, offline: Offline = False, format: Format = "human", debug: Debug = False
) -> None:
    """Show what a model is, its licence, how large it is and what of it is on this machine."""
    from mocgen.cli.model_facts import folder_facts, repository_facts
    from mocgen_weights import Hub, embedded_folder, hub_id

    if model == "embedded" or Path(model).is_dir():
        facts = folder_facts(model, embedded_folder() if model == "embedded" else Path(model))
    else:
        repo, revision = hub_id(model)
        facts = repository_facts(repo, revision, Hub(offline=offline))
    _print_facts(facts, format)


@app.command("rm")
def remove(
    model: Model,
    yes: Annotated[bool, typer.Option("--yes", "-y", metavar="", help="Do not ask.")] = False,
    format: Format = "human",
    debug: Debug = False,
) -> None:
    """Remove a model from the Hub's cache, with all its revisions."""
    import sys

    from mocgen_weights import Hub, cached_bytes, remove_cached

    repo, revision = _repository(model)
    if revision:
        raise UsageError(f"rm removes all revisions of a model: leave out @{revision}")
    size = cached_bytes(repo, Hub())
    if size and not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{repo} takes {size_in_bytes(size)}: --yes is needed to remove it unasked")
        if not typer.confirm(f"Remove {repo} ({size_in_bytes(size)})?", err=True):
            return
    freed = remove_cached(repo, Hub())
    _print_facts({"removed": repo, "bytes": freed}, format)


def _repository(model: str) -> tuple[str, str | None]:
    """The repository and revision of what is fetched from a Hub and kept in its cache."""
    from mocgen_weights import hub_id

    if model == "embedded" or Path(model).is_dir():
        raise UsageError(f"{model} is not in the Hub's cache: it is a folder")
    return hub_id(model)


def _cached(entry: CatalogEntry, hub: Hub) -> int:
    from mocgen_weights import cached_bytes

    return cached_bytes(entry.repo, hub) if entry.repo else 0


def _print_facts(facts: dict[str, object], form: FormatName) -> None:
    """One JSON object, or a line for every fact that is not empty; numbers are bytes or counts."""
    if form == "json":
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if value in (None, "", 0, []):
            continue
        label = name.replace("_", " ").removesuffix(" bytes")
        if name.endswith("bytes") and isinstance(value, int):
            text = size_in_bytes(value)
        elif isinstance(value, list):
            text = ", ".join(map(str, value))
        else:
            text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        typer.echo(f"  {typer.style(f'{label:<24}', dim=True)}{text}")
