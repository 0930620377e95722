"""Files that an annotation writes, and labels that are rebuilt from its journal on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from fakes import PATIENCE, FakePredictor
from napari.components import ViewerModel

import napari_sam
from napari_sam import cli
from napari_sam.bridge.controller import Controller
from napari_sam.bridge.export import export_journal, export_labels, export_objects
from napari_sam.errors import ExportError
from napari_sam.export import Grid, objects_table, write_labels

SHAPE = (4, 60, 90)


@pytest.fixture
def image_path(tmp_path: Path) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 4000, SHAPE, dtype=np.uint16), photometric="minisblack")
    return path


@pytest.fixture
def annotator(viewer: ViewerModel, predictor: FakePredictor, image_path: Path) -> Controller:
    """Two nuclei and one object without a class, in two slices."""
    image = viewer.add_image(tifffile.imread(image_path), scale=(2, 0.5, 0.5), units=("um", "um", "um"))
    annotator = napari_sam.annotate(viewer, image)
    for place in ((1, 20, 20), (1, 30, 70), (2, 40, 40)):
        viewer.dims.set_current_step(0, place[0])
        annotator.points.add([place])
        annotator.wait(PATIENCE)
        annotator.commit()
    annotator.objects.set_class(1, "nucleus, large")
    annotator.objects.set_class(2, "nucleus, large")
    return annotator


def test_labels_are_an_ome_tiff_with_the_images_axes(annotator: Controller, tmp_path: Path) -> None:
    export_labels(annotator, tmp_path / "labels.tif")
    with tifffile.TiffFile(tmp_path / "labels.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "ZYX"
        assert 'PhysicalSizeZ="2.0" PhysicalSizeZUnit="µm"' in (file.ome_metadata or "").replace("&#181;", "µ")
        labels = file.asarray()
    assert labels.dtype == np.uint16
    assert (labels == annotator.labels.data).all()


@pytest.mark.parametrize(("largest", "dtype"), [(300, "uint16"), (70000, "uint32"), (2**40, "uint64"), (-3, "int64")])
@pytest.mark.parametrize("shape", [(30, 3), (4, 30, 40), (2, 3, 4, 30, 40), (1, 1, 1, 2, 3, 4)])
def test_ids_of_any_size_survive(tmp_path: Path, largest: int, dtype: str, shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape, np.int64)
    labels[..., 1, 1] = largest
    write_labels(tmp_path / "labels.tiff", labels)
    back = tifffile.imread(tmp_path / "labels.tiff")
    assert back.dtype == dtype
    assert (back.reshape(shape) == labels).all()


def test_axes_of_any_name() -> None:
    assert Grid(("time", "row", "column")).letters(3) == "TYX"
    assert Grid(("-3", "-2", "-1")).letters(3) == "ZYX"
    assert Grid(("x", "y", "z")).letters(3) == "ZYX"
    assert Grid().letters(7) is None


def test_objects_are_a_table(annotator: Controller, tmp_path: Path) -> None:
    export_objects(annotator, tmp_path / "objects.csv")
    table = pd.read_csv(tmp_path / "objects.csv")
    assert table["label"].tolist() == [1, 2, 3]
    assert table["class"].tolist()[:2] == ["nucleus, large"] * 2
    assert table["area"].tolist() == [one.area for one in annotator.objects]
    assert table["score"].tolist() == pytest.approx([0.9] * 3)
    assert table.loc[0, ["centroid-0", "centroid-1", "centroid-2"]].tolist() == pytest.approx([1, 20, 20], abs=2)
    assert table.loc[1, ["bbox-0", "bbox-3"]].tolist() == [1, 2]


def test_a_table_of_huge_and_negative_ids() -> None:
    labels = np.zeros((20, 30), np.int64)
    labels[2:4, 5:9], labels[10:12, 3:5], labels[0, 0] = 2**40, 7, -5
    table = objects_table(labels, ())
    assert table["label"].tolist() == [7, 2**40]
    assert table["area"].tolist() == [4, 8]
    assert table["bbox-0"].tolist() == [10, 2]
    assert objects_table(np.zeros((20, 30), np.uint16), ()).empty


def test_what_cannot_be_written_says_why(annotator: Controller, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"must end in \.tif or \.tiff"):
        export_labels(annotator, tmp_path / "labels.png")
    with pytest.raises(ExportError, match="cannot write"):
        export_objects(annotator, tmp_path / "none" / "objects.csv")
    annotator.set_labels(None)
    with pytest.raises(ExportError, match="nothing was journalled"):
        export_journal(annotator, tmp_path / "a.jsonl")


def test_a_failed_export_leaves_the_former_file(
    annotator: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.tif"
    export_labels(annotator, path)
    before = path.read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(ExportError, match="No space left"):
        export_labels(annotator, path)
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["image.tif", "labels.tif"]


# Replay


def test_replay_rebuilds_labels_and_table(
    annotator: Controller, image_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export_journal(annotator, tmp_path / "journal.jsonl")
    export_objects(annotator, tmp_path / "objects.csv")
    out, table = tmp_path / "labels.tif", tmp_path / "again.csv"
    arguments = [
        str(tmp_path / "journal.jsonl"),
        "--image",
        str(image_path),
        "--out",
        str(out),
        "--objects",
        str(table),
    ]
    assert cli.main(["replay", *arguments]) == 0
    assert (tifffile.imread(out) == annotator.labels.data).all()
    assert table.read_text() == (tmp_path / "objects.csv").read_text()
    assert "outlined with default, weights fake" in capsys.readouterr().out


@pytest.mark.parametrize("axes", ["channels first", "channels last", "one more axis"])
def test_replay_knows_a_layer_of_a_file(annotator: Controller, image_path: Path, tmp_path: Path, axes: str) -> None:
    image = tifffile.imread(image_path)
    if axes == "one more axis":
        image = image[:, None]
    else:
        image = np.stack([image + 1, image], axis=0 if axes == "channels first" else -1)
    tifffile.imwrite(image_path, image, photometric="minisblack")
    out = tmp_path / "labels.tif"
    assert cli.main(["replay", str(annotator.journal.path), "--image", str(image_path), "--out", str(out)]) == 0
    assert (tifffile.imread(out) == annotator.labels.data).all()


def test_replay_refuses_another_image(
    annotator: Controller, image_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = str(annotator.journal.path)
    tifffile.imwrite(image_path, np.zeros(SHAPE, np.uint16), photometric="minisblack")
    arguments = ["--image", str(image_path), "--out", str(tmp_path / "labels.tif")]
    assert cli.main(["replay", journal, *arguments]) == 2
    assert "about another image" in capsys.readouterr().err
    assert cli.main(["replay", str(image_path), *arguments]) == 2
    assert "is no journal" in capsys.readouterr().err
    assert not (tmp_path / "labels.tif").exists()
