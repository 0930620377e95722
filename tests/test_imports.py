"""Who may import what, where import-linter (pyproject.toml) cannot say it; imports for type checking count."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_sam

PACKAGE = Path(napari_sam.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
TORCH_USERS = ("models", "training", "checkpoints", "predictor", "embedding_cache")
TORCH_FREE = (
    "napari_sam.annotator",
    "napari_sam.bridge",
    "napari_sam.bridge.controller",
    "napari_sam.checkpoints",
    "napari_sam.checkpoints.download",
    "napari_sam.cli",
    "napari_sam.samples",
    "napari_sam.widgets",
    "napari_sam.widgets.bell",
    "napari_sam.widgets.dock",
    "napari_sam.worker",
)


def part(path: Path) -> str:
    """Return the module or folder directly under the package that `path` belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Yield the full name of everything that a file imports, in functions and for type checking too."""
    home = ["napari_sam", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = home[: len(home) - node.level + 1] if node.level else []
            yield from (".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names)


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_widgets_know_napari_qt(path: Path) -> None:
    private = ("napari.qt", "napari._qt", "qtpy", "superqt", "PyQt6", "PySide6")
    found = [name for name in imported(path) if any(is_in(name, package) for package in private)]
    assert not found or part(path) == "widgets"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_headless_core_knows_torch(path: Path) -> None:
    found = [name for name in imported(path) if is_in(name, "torch")]
    assert not found or part(path) in TORCH_USERS


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").rglob("*.py")), ids=lambda path: path.name)
def test_models_import_torch_and_themselves_only(path: Path) -> None:
    allowed = {"torch", *sys.stdlib_module_names}
    names = list(imported(path))
    foreign = [n for n in names if n.split(".")[0] not in allowed and not is_in(n, "napari_sam.models")]
    assert not foreign


def modules_after(statement: str) -> set[str]:
    """Return what is in sys.modules after `statement`, in a Python of its own."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def bringer_of_torch() -> str:
    """The first of `TORCH_FREE`, imported one after the other, that brings torch along; empty if none does."""
    look = "next((name for name in sys.argv[1:] if import_module(name) and 'torch' in sys.modules), '')"
    code = f"import sys\nfrom importlib import import_module\nprint({look})"
    command = [sys.executable, "-c", code, *TORCH_FREE]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=100).stdout.strip()


@pytest.mark.parametrize("module", TORCH_FREE)
def test_importing_the_viewer_side_leaves_torch_alone(module: str, bringer_of_torch: str) -> None:
    assert module != bringer_of_torch


def test_importing_the_package_is_light() -> None:
    loaded = modules_after("import napari_sam; napari_sam.PromptError; dir(napari_sam)")
    assert not loaded & {"torch", "napari", "numpy", "skimage", "qtpy"}


def test_every_public_name_is_there() -> None:
    assert all(getattr(napari_sam, name) is not None for name in napari_sam.__all__)
    assert set(napari_sam.__all__) <= set(dir(napari_sam))
    assert {name for name in vars(napari_sam.errors) if name[0].isupper()} <= set(napari_sam.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = napari_sam.nonsense
