"""What ships: the wheel holds what the package reads at run time, and the documents say what is true."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
COMMAND = (
    "python3 -m pip install --quiet --upgrade --target .tox/bootstrap tox && "
    "PYTHONPATH=.tox/bootstrap python3 -m tox -e {}"
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, cwd=ROOT, capture_output=True, timeout=100)
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file).namelist()


def test_wheel_holds_what_the_package_reads(wheel: list[str]) -> None:
    wanted = ["napari.yaml", "py.typed"]
    wanted += [f"sample_data/{name}" for name in ("nuclei.png", "ct_slice.tif", "tissue.png", "blobs.tif")]
    assert {f"napari_sam/{name}" for name in wanted} <= set(wheel)


def test_wheel_holds_every_tracked_file_of_the_package(wheel: list[str]) -> None:
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "napari_sam").rglob("*") if path.is_file()}
    assert {name for name in here if "__pycache__" not in name} <= set(wheel)


def test_no_qt_binding_comes_along() -> None:
    needed = [Requirement(line) for line in requires("napari-sam-live") or []]
    always = {each.name.lower() for each in needed if each.marker is None}
    assert "napari" in always
    assert not [name for name in always if name.startswith(("pyqt", "pyside"))]


@pytest.mark.parametrize("environment", ["demo", "test"])
def test_readme_has_the_command_in_one_line(environment: str) -> None:
    assert COMMAND.format(environment) in (ROOT / "README.md").read_text().splitlines()


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == COMMAND.format("test")


@pytest.mark.parametrize("document", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(document: str) -> None:
    path = ROOT / document
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text())
    assert not [target for target in targets if not (path.parent / target).exists()]
