"""The sample pictures: small, found, and good layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Layer

from napari_sam import samples

if TYPE_CHECKING:
    from npe2._pytest_plugin import TestPluginManager

EXPECTED = {
    samples.nuclei: ((512, 512), np.uint16),
    samples.ct_slice: ((384, 384), np.int16),
    samples.tissue: ((448, 448, 3), np.uint8),
    samples.blobs: ((8, 256, 256), np.uint8),
}


@pytest.mark.parametrize("sample", EXPECTED, ids=lambda sample: sample.__name__)
def test_sample_makes_a_layer(sample: Callable[[], list[samples.LayerData]]) -> None:
    ((data, meta, kind),) = sample()
    assert (data.shape, data.dtype) == EXPECTED[sample]
    layer = ViewerModel().add_layer(Layer.create(data, meta, kind))
    assert layer.data.std() > 0


def test_napari_opens_each_by_its_key(npe2pm: TestPluginManager) -> None:
    viewer = ViewerModel()
    with npe2pm.tmp_plugin(package="napari-sam-live"):
        for key in ("nuclei", "ct_slice", "tissue", "blobs"):
            viewer.open_sample("napari-sam-live", key)
    assert [layer.name for layer in viewer.layers] == ["nuclei", "CT slice", "tissue", "blobs"]


def test_samples_are_small() -> None:
    folder = samples.sample_path("nuclei.png").parent
    pictures = [path for path in folder.iterdir() if path.suffix in (".png", ".tif")]
    assert len(pictures) == 4
    assert max(path.stat().st_size for path in pictures) < 300_000


def test_folder_inside_the_package_is_found_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nuclei.png").touch()
    monkeypatch.setattr(samples, "_FOLDERS", (tmp_path / "absent", tmp_path))
    assert samples.sample_path("nuclei.png") == tmp_path / "nuclei.png"


def test_unknown_picture_says_where_it_looked() -> None:
    with pytest.raises(FileNotFoundError, match=r"'moon\.png' in .*sample_data"):
        samples.sample_path("moon.png")
