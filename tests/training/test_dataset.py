"""The folder of real pictures, what is held aside, and batches."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tifffile
import torch
from skimage import io

from napari_sam.errors import ImageError
from napari_sam.models.sam import build_sam
from napari_sam.models.specs import SPECS
from napari_sam.training import dataset
from napari_sam.training.crops import CropRule
from napari_sam.training.dataset import Batches, Trainset
from napari_sam.training.dense import dense_loss, dense_target
from napari_sam.training.evaluate import evaluate

RULE = CropRule(size=64, objects=3)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    entries = []
    for index in range(6):
        mask = np.zeros((80, 90), np.uint16)
        mask[10:40, 10:50], mask[50:70, 40:80] = 1, 5
        io.imsave(tmp_path / f"{index}.png", rng.integers(0, 255, (80, 90), dtype=np.uint8), check_contrast=False)
        io.imsave(tmp_path / f"{index}.tif", mask, check_contrast=False)
        about = {"image": f"{index}.png", "mask": f"{index}.tif", "dataset": "d", "modality": "m"}
        entries.append(about | {"independence_group": f"patient {index // 1}", "complete": index != 0})
    (tmp_path / "manifest.json").write_text(json.dumps({"entries": entries}))
    return tmp_path


def test_whole_groups_are_held_aside(folder):
    trainset = Trainset(folder, aside=0.3)
    aside = {entry["independence_group"] for entry in trainset.held_aside}
    assert len(aside) == 2
    assert aside == trainset.held_aside_groups
    assert not aside & {entry["independence_group"] for entry in trainset.entries}
    assert Trainset(folder, aside=0.3).held_aside_groups == aside


def test_grey_pictures_become_three_equal_channels(folder):
    trainset = Trainset(folder)
    image = trainset.picture(trainset.entries[0]).image
    assert image.dtype == np.uint8
    assert image.shape == (80, 90, 3)
    assert (image[..., 0] == image[..., 1]).all()


def test_batches_depend_on_seed_and_index_alone(folder):
    batches = Batches(Trainset(folder), RULE, images=3, drawn=0.5, seed=1)
    first, again, other = batches[4], Batches(Trainset(folder), RULE, images=3, drawn=0.5, seed=1)[4], batches[5]
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.images, other.images)
    colleague = Batches(Trainset(folder), RULE, images=3, drawn=0.5, seed=1, rank=1)[4]
    assert not torch.equal(first.images, colleague.images)


def test_a_batch_fits_together(folder):
    batch = Batches(Trainset(folder), RULE, images=3, drawn=0.5, seed=1)[0]
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.images.dtype == torch.uint8
    assert batch.masks.shape[1:] == (32, 32)
    assert len(batch.masks) == len(batch.owner) == len(batch.outside)
    assert set(batch.owner.tolist()) == {0, 1, 2}
    known = batch.inside[batch.owner, 0, ::2, ::2]
    assert not (batch.masks & ~known).any()


def test_the_stream_goes_on_where_it_is_told_to(folder):
    batches = Batches(Trainset(folder), RULE, images=1, drawn=0.5, seed=1)
    index, batch = next(batches.stream(7, processes=0))
    assert index == 7
    assert torch.equal(batch.images, batches[7].images)


def test_dense_target_points_to_the_centre():
    labels = np.zeros((8, 8), np.int32)
    labels[2:5, 3:6] = 1
    inside = np.ones((8, 8), bool)
    inside[:, 7] = False
    target = dense_target(labels, inside, complete=True)
    assert target[2, 2, 4] == pytest.approx(1 / 3)  # one row up of the centre, over the root of 9
    assert target[3, 3, 4] == 0
    assert target[1, 3, 4] == 0
    assert target[1, 2, 4] == 1
    assert not target[5, :, 7].any()
    unknown = dense_target(labels, inside, complete=False)
    np.testing.assert_array_equal(unknown[5], labels > 0)


def test_dense_loss_falls_to_nothing_for_the_right_answer():
    labels = np.zeros((8, 8), np.int32)
    labels[2:5, 3:6] = 1
    target = torch.from_numpy(dense_target(labels, np.ones((8, 8), bool), complete=True))[None]
    answer = target[:, :5].clone()
    answer[:, :2] = 40 * answer[:, :2] - 20
    assert dense_loss(answer, target) < 1e-6
    assert dense_loss(torch.zeros_like(answer), target) > 0.5


def test_a_folder_of_pairs_needs_no_manifest(folder, tmp_path):
    pairs = tmp_path / "pairs"
    for kind, ending in (("images", "png"), ("masks", "tif")):
        (pairs / kind).mkdir(parents=True)
        for index in range(6):
            (folder / f"{index}.{ending}").rename(pairs / kind / f"{index}.{ending}")
    trainset = Trainset(pairs)
    assert len(trainset.entries) + len(trainset.held_aside) == 6
    assert len(trainset.random_picture(np.random.default_rng(0)).boxes) == 2
    (pairs / "images" / ".DS_Store").touch()
    (pairs / "masks" / "._3.tif").touch()
    assert len(Trainset(pairs, aside=0).entries) == 6
    (pairs / "masks" / "3.tif").unlink()
    with pytest.raises(ImageError, match=r"no mask for 3\.png"):
        Trainset(pairs)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ImageError, match="has neither"):
        Trainset(tmp_path)


def test_a_mask_of_another_size_is_refused(folder):
    trainset = Trainset(folder)
    io.imsave(folder / trainset.entries[0]["mask"], np.ones((80, 80), np.uint16), check_contrast=False)
    with pytest.raises(ImageError, match=r"is \(80, 80\), its image \(80, 90\)"):
        trainset.picture(trainset.entries[0])


def test_pictures_without_objects_are_passed_over(folder):
    trainset = Trainset(folder)
    masks = [folder / entry["mask"] for entry in (*trainset.entries, *trainset.held_aside)]
    for path in masks[1:]:
        io.imsave(path, np.zeros((80, 90), np.uint8), check_contrast=False)
    assert len(trainset.random_picture(np.random.default_rng(0)).boxes) == 2
    assert evaluate(build_sam(SPECS["toy_tiny_vit"]).eval(), trainset) == {}
    io.imsave(masks[0], np.zeros((80, 90), np.uint8), check_contrast=False)
    with pytest.raises(ImageError, match="have no objects: give each object its own number"):
        Trainset(folder).random_picture(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("dtype", "low", "high", "objects"),
    [(bool, 0, 1, 1), (np.uint8, 7, 255, 2), (np.uint32, 7, 4_000_000_000, 2), (np.float32, 7, 4_000_000_000, 2)],
)
def test_ids_of_any_type_are_objects(folder, dtype, low, high, objects):
    """Numbered at random in 32 bits, or without any background, they neither fill the memory nor get lost."""
    trainset = Trainset(folder)
    mask = np.full((80, 90), low, dtype)
    mask[40:] = high
    tifffile.imwrite(folder / trainset.entries[0]["mask"], mask)
    picture = trainset.picture(trainset.entries[0])
    assert picture.areas.tolist() == [40 * 90] * objects
    assert picture.layers.max() < 256


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((80, 90), -1, np.int16), "has values from -1 to -1: give objects whole numbers from 1 on"),
        (
            np.linspace(0, 1, 7200, dtype=np.float32).reshape(80, 90),
            r"has values from 0\.0 to 1\.0: give objects whole",
        ),
        (np.full((80, 90), np.nan, np.float32), "has values from nan to nan"),
        (np.ones((80, 90, 3), np.uint8), r"is \(80, 90, 3\), its image \(80, 90\): give it that size and one channel"),
    ],
)
def test_what_is_no_mask_is_refused(folder, mask, message):
    trainset = Trainset(folder)
    tifffile.imwrite(folder / trainset.entries[0]["mask"], mask)
    with pytest.raises(ImageError, match=message):
        trainset.picture(trainset.entries[0])


def test_files_that_cannot_be_used_are_named(folder):
    trainset = Trainset(folder)
    first, second = (folder / entry["image"] for entry in trainset.entries[:2])
    first.write_text("no image")
    with pytest.raises(ImageError, match=f"cannot read {re.escape(str(first))} as an image"):
        trainset.picture(trainset.entries[0])
    tifffile.imwrite(second, np.zeros((4, 5, 80, 90), np.uint8))
    second.rename(second.with_suffix(".tif"))
    with pytest.raises(ImageError, match=rf"{second.stem}\.tif: an image of shape \(4, 5, 80, 90\)"):
        trainset.picture(trainset.entries[1] | {"image": second.with_suffix(".tif").name})


@pytest.mark.parametrize("text", ["{", "[]", '{"entries": [{"image": "a.png"}]}', '{"entries": []}', '{"entries": 3}'])
def test_a_manifest_that_lists_no_pictures_is_refused(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ImageError, match=r"manifest\.json .*its `entries` must name `image` and `mask`"):
        Trainset(tmp_path)


def test_a_manifest_may_name_image_and_mask_alone(folder):
    listed = [{"image": f"{index}.png", "mask": f"{index}.tif"} for index in range(6)]
    (folder / "manifest.json").write_text(json.dumps({"entries": listed}))
    assert len(Trainset(folder).held_aside) == 1


def test_pictures_are_kept_as_far_as_there_is_room(folder, monkeypatch):
    monkeypatch.setattr(dataset, "KEPT", 1)
    trainset = Trainset(folder, aside=0)
    first, second = trainset.entries[:2]
    assert trainset.picture(first) is trainset.picture(first)
    assert trainset.picture(second) is not trainset.picture(second)


@pytest.mark.parametrize("processes", [0, 1])
def test_mistakes_in_pictures_arrive_as_they_are(folder, processes):
    for entry in json.loads((folder / "manifest.json").read_text())["entries"]:
        (folder / entry["image"]).unlink()
    stream = Batches(Trainset(folder), RULE, images=1, drawn=0.0, seed=1).stream(0, processes)
    with pytest.raises(ImageError, match=r"^cannot read .* as an image .*: replace it, or take it out$"):
        next(stream)
