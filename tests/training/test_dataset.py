"""The folder of real pictures, what is held aside, and batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from skimage import io

from napari_sam.errors import ImageError
from napari_sam.training.crops import CropRule
from napari_sam.training.dataset import Batches, Trainset
from napari_sam.training.dense import dense_loss, dense_target

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
        about = {"name": str(index), "image": f"{index}.png", "mask": f"{index}.tif", "dataset": "d", "modality": "m"}
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
