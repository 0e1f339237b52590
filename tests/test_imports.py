"""Who may import whom, and what `import mocgen` and the help screens load."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "mocgen": ROOT / "mocgen",
    "mocgen_kernels": ROOT / "kernels" / "mocgen_kernels",
    "mocgen_weights": ROOT / "weights" / "mocgen_weights",
}
WORDS = ("errors", "settings", "storyboard")  # what everybody in mocgen may speak of
FRONT = ("pipeline", "routing", "training", "evaluation")
HEAVY = ("torch", "av", "numpy", "matplotlib", "triton", "safetensors", "huggingface_hub", "mocgen.pipeline")


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the project: dotted name and file."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            yield ".".join(part for part in parts if part != "__init__"), path


def imported(name: str, path: Path) -> set[str]:
    """Dotted names that a module imports anywhere in its text, also for annotations only."""
    found: set[str] = set()
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{source}.{alias.name}" for alias in node.names} | {source}
    return found


def height(name: str) -> int:
    """Floor of the house on which a module of mocgen stands; it may import its own floor and those below."""
    room = [*name.split("."), ""][1]
    if room == "cli" or name in ("mocgen", "mocgen.__main__"):
        return 3
    return 2 if room in FRONT else 0 if room in WORDS else 1


def allowed(importer: str, name: str) -> bool:
    """Whether a module may import a name."""
    own, other = importer.split(".")[0], name.split(".")[0]
    if other in ("typer", "rich", "click"):
        return importer.startswith("mocgen.cli")
    if own == "mocgen_kernels":
        return other in (own, "torch", "triton") or other in sys.stdlib_module_names
    if own == "mocgen_weights" or other != "mocgen":
        return other != "mocgen" and not (own == "mocgen_weights" and other == "mocgen_kernels")
    return name == "mocgen" or height(name) <= height(importer)  # `import mocgen` gives the version only


@pytest.mark.parametrize(("name", "path"), [pytest.param(*module, id=module[0]) for module in modules()])
def test_imports_point_downwards(name: str, path: Path) -> None:
    assert [other for other in sorted(imported(name, path)) if not allowed(name, other)] == []


def test_the_rule_itself_refuses_what_it_should() -> None:
    assert not allowed("mocgen.model.dit", "mocgen.training.run")
    assert not allowed("mocgen.pipeline", "mocgen.cli.app")
    assert not allowed("mocgen.storyboard", "mocgen.video")
    assert not allowed("mocgen_weights.hub", "mocgen.errors")
    assert not allowed("mocgen_kernels.ops", "numpy")
    assert not allowed("mocgen.routing.summary", "rich.table")
    assert allowed("mocgen.training.run", "mocgen.model.dit")
    assert allowed("mocgen.model.dit", "mocgen_kernels")


def test_errors_import_nothing() -> None:
    assert imported("mocgen.errors", PACKAGES["mocgen"] / "errors.py") == set()


def modules_loaded_by(code: str) -> set[str]:
    """The heavy modules that a fresh interpreter holds after running some code."""
    report = f"import sys\n{code}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, "-c", report], env=environment, capture_output=True, text=True, check=True
    )
    return set(ast.literal_eval(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import mocgen; mocgen.Settings(); mocgen.scene_from_prompts(['a star'])",
        "from mocgen.cli import main; assert main(['--help']) == 0",
        "from mocgen.cli import main; assert main(['generate', '--help']) == 0",
        "from mocgen.cli import main; assert main(['generate', '']) == 2",
    ],
)
def test_nothing_heavy_is_loaded_for_the_public_names_and_the_help(code: str) -> None:
    assert modules_loaded_by(code) == set()


def test_the_public_names_are_there() -> None:
    assert "torch" in modules_loaded_by(
        "import mocgen; assert all(getattr(mocgen, n) for n in mocgen.__all__)"
    )
