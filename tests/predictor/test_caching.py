"""What a predictor keeps of what it encoded: found again where everything is the same, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import CROP_SIDES, make_predictor, picture

from napari_sam import Prompts
from napari_sam.embedding_cache import DiskStore, EmbeddingCache
from napari_sam.errors import Cancelled
from napari_sam.regions import helpful_regions


@pytest.fixture
def store(tmp_path: Path) -> DiskStore:
    return DiskStore(tmp_path / "embeddings", 1 << 20)


class Counted:
    """Counts the pictures that the network of a predictor encodes."""

    def __init__(self, predictor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pictures = 0
        encode = predictor._sam.encode

        def counted(pixels: torch.Tensor, *arguments: Any) -> torch.Tensor:
            self.pictures += len(pixels)
            return encode(pixels, *arguments)

        monkeypatch.setattr(predictor._sam, "encode", counted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_image_is_encoded_once_and_answered_as_if_anew(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    image, prompts = picture(40, 60), Prompts(points=[(9, 9)], labels=[1])
    plain = make_predictor(dtype=dtype)
    expected = plain.decode(plain.encode(image), prompts).logits
    for fresh in (True, False):  # another predictor, as in another session, finds it on disk
        predictor = make_predictor(dtype=dtype, cache=EmbeddingCache(store))
        counted = Counted(predictor, monkeypatch)
        for _ in range(2):
            embedding = predictor.encode(image)
            np.testing.assert_array_equal(predictor.decode(embedding, prompts).logits, expected)
        assert counted.pictures == fresh


def test_other_pixels_limits_weights_or_precisions_are_encoded_anew(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, image = EmbeddingCache(store), picture(40, 60)
    changed = image.copy()
    changed[3:9, 3:9] = 0
    predictors = [make_predictor(cache=cache), make_predictor(dtype=torch.bfloat16, cache=cache)]
    predictors.append(make_predictor(name="toy_vit", cache=cache))
    for predictor in predictors:
        counted = Counted(predictor, monkeypatch)
        predictor.encode(image)
        predictor.encode(changed)
        predictor.encode(image, limits=(10, 90))
        assert counted.pictures == 3


def test_regions_are_kept_each_on_their_own(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = make_predictor(CROP_SIDES, cache=EmbeddingCache(store))
    counted = Counted(predictor, monkeypatch)
    image, click = picture(60, 90), Prompts(points=[(30, 40)], labels=[1])
    embedding = predictor.encode(image)
    crops = helpful_regions(click, embedding.shape, embedding.boxes, CROP_SIDES)
    predictor.encode(image, region=next(box for box, is_turned in crops.items() if not is_turned))
    refined = predictor.refine(embedding, image, click)
    assert counted.pictures == len(refined.regions) > len(CROP_SIDES)
    assert store.usage()[0] == 1  # the whole image: crops stay in memory
    again = predictor.refine(predictor.encode(image), image, click)
    assert counted.pictures == len(refined.regions)
    np.testing.assert_array_equal(predictor.decode(again, click).logits, predictor.decode(refined, click).logits)


def test_a_cancelled_encoding_is_not_kept(store: DiskStore) -> None:
    predictor = make_predictor(cache=EmbeddingCache(store))
    answers = iter([False, False, True])
    with pytest.raises(Cancelled):
        predictor.encode(picture(20, 20), cancelled=lambda: next(answers))
    assert store.usage() == (0, 0)


def test_only_the_region_is_read_of_a_lazy_array(store: DiskStore) -> None:
    class Lazy:
        shape, dtype, ndim = (4000, 5000), np.dtype(np.uint8), 2

        def __init__(self) -> None:
            self.read = 0

        def __getitem__(self, window: Any) -> np.ndarray[Any, Any]:
            part = np.zeros([len(range(*w.indices(n))) for w, n in zip(window, self.shape, strict=True)], np.uint8)
            self.read += part.size
            return part

    lazy = Lazy()
    predictor = make_predictor(cache=EmbeddingCache(store))
    for _ in range(2):
        predictor.encode(lazy, limits=(0, 255), region=(100, 200, 164, 264))
    assert lazy.read == 2 * 64 * 64


def test_no_pixels_are_stored(store: DiskStore) -> None:
    image = picture(64, 64)
    make_predictor(cache=EmbeddingCache(store)).encode(image)
    (path,) = store.folder.iterdir()
    array = store.read(path.stem)
    assert array is not None
    assert array.shape == (1, 32, 4, 4)  # the features of a toy, and nothing else
    assert path.stat().st_size < array.nbytes + 300


def test_trouble_with_the_disk_reaches_the_user_once_and_the_embedding_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said: list[str] = []
    predictor = make_predictor(cache=EmbeddingCache(DiskStore(tmp_path / "file", 1 << 20)), notify=said.append)
    for seed in range(2):
        assert predictor.encode(picture(20, 20, seed)).shape == (20, 20)
    (message,) = said
    assert "not kept on disk any more" in message
