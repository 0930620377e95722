"""What the model sees besides the prompts: objects like one, the embedding, the encoder's own input."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from ..encoder_view import PlacedPicture, embedding_picture, encoder_picture
from ..errors import LabelsError, PromptError
from ..likeness import Proposal, find_similar
from ..pending import Answer
from .image_source import OURS, placed_like

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.components import ViewerModel

    from ..annotator import Annotator
    from ..embedding import ImageEmbedding
    from ..planes import SliceKey
    from ..predictor import Predictor
    from ..worker import Job
    from .prompt_layers import PromptLayers

EMBEDDING = "embedding"
INPUT = "encoder input"
SIMILAR = "similar"


class Views:
    """Looks at the slice shown through the eyes of an annotation's model.

    Parameters
    ----------
    viewer, image
        Where pictures are shown, and the image they belong to.
    annotator, prompts
        The annotation, and its prompt layers, which take proposals.
    plane
        Tells which plane is shown; raises `ImageError` if none is.
    """

    def __init__(
        self,
        viewer: ViewerModel,
        image: Image,
        annotator: Annotator,
        prompts: PromptLayers,
        plane: Callable[[], SliceKey],
    ) -> None:
        self._viewer, self._image = viewer, image
        self._annotator, self._prompts, self._plane = annotator, prompts, plane
        self._committed: int | None = None
        annotator.events.committed.connect(self._on_committed)

    def find_similar(self, object_id: int | None = None) -> None:
        """Propose objects like a committed one of the slice shown: a point each, pending until it is committed.

        A proposal is refused by removing its point; a commit accepts all that are left, `accept` some of them.

        Parameters
        ----------
        object_id
            None takes the one that is selected in the list of objects, else the one that was committed last.

        Raises
        ------
        LabelsError
            The slice shown has no such object.
        ImageError
            The slice is not encoded yet, or none is shown.
        """
        key, notes = self._plane(), list[str]()
        ids = self._annotator.ids_shown()
        wanted = object_id or self._annotator.objects.selected or self._committed
        if ids is None or wanted is None or not (ids == wanted).any():
            what = "no object was committed yet" if wanted is None else f"object {wanted} has no pixel in this slice"
            raise LabelsError(f"{what}: outline one and commit it, then look for others like it")
        example, taken = ids == wanted, ids > 0

        def look(predictor: Predictor, embedding: ImageEmbedding, pixels: Any, job: Job) -> list[Proposal]:
            how: dict[str, Any] = {"progress": job.progress, "cancelled": job.is_cancelled, "notify": notes.append}
            return find_similar(predictor, embedding, pixels, example, taken, **how)

        self._annotator.look("Looking for more like it", look, partial(self._propose, key, example.shape, notes))

    def accept(self) -> None:
        """Commit the objects of the selected points and shapes alone; `PromptError` if none of them is pending."""
        selected = self._prompts.selected_rows(self._annotator.slices.rows)
        owners = {row.owner for row in selected.values()} & self._annotator.slices.objects.keys()
        if not owners:
            raise PromptError("no pending object is selected: select its point, in the mode of the points layer for it")
        self._annotator.commit_only(owners)

    def _propose(self, key: SliceKey, shape: tuple[int, int], notes: list[str], found: list[Proposal]) -> None:
        """Make an object of every proposal, with the mask that was found, and say what is to be known of the search."""
        if not found:
            return self._annotator.propose({}, {}, " ".join(["Nothing else looks like it.", *notes]))
        rows = self._prompts.rows_at(np.array([each.point for each in found]), key, SIMILAR)
        asked = self._prompts.view(rows, key, shape).objects
        owners = [row.owner for row in rows.values()]
        answers = {
            owner: Answer(asked[owner].prompts, each.result, each.chosen)
            for owner, each in zip(owners, found, strict=True)
        }
        message = f"{len(rows)} more like it: remove the points that are wrong, then commit."
        return self._annotator.propose(rows, answers, " ".join([message, *notes]))

    def show_embedding(self) -> None:
        """Show the three principal components of the embedding in a layer; `ImageError` if there is none yet."""
        self._annotator.look(
            "Looking at the embedding",
            lambda predictor, embedding, *_: embedding_picture(predictor, embedding),
            partial(self._show, EMBEDDING, self._plane()),
        )

    def show_encoder_input(self) -> None:
        """Show exactly what the encoder sees in a layer; `ImageError` if nothing is encoded yet."""
        self._annotator.look(
            "Looking at the encoder's input",
            lambda predictor, embedding, pixels, _: encoder_picture(predictor, embedding, pixels),
            partial(self._show, INPUT, self._plane()),
        )

    def _show(self, what: str, key: SliceKey, picture: PlacedPicture) -> None:
        """Put a picture over the image, in the place of an earlier one of its kind."""
        layer = Image(**layer_data(self._image, key, picture), name=f"{self._image.name} {what}", rgb=True)
        layers, active = self._viewer.layers, self._viewer.layers.selection.active
        for earlier in [each for each in layers if each.metadata.get(OURS) == (what, id(self._image))]:
            layers.remove(earlier)
        layer.metadata[OURS] = what, id(self._image)
        layers.insert(layers.index(self._image) + 1, layer)
        layers.selection.active = active

    def _on_committed(self, ids: tuple[int, ...]) -> None:
        self._committed = ids[-1] if ids else self._committed


def layer_data(image: Image, key: SliceKey, picture: PlacedPicture) -> dict[str, Any]:
    """Return the arguments of an image layer that shows a picture on its part of the plane `key` of `image`."""
    pixels = picture.pixels.swapaxes(0, 1) if key.is_transposed else picture.pixels
    shape = [1] * image.ndim
    for axis, size in zip(sorted(key.displayed), pixels.shape, strict=False):
        shape[axis] = size
    offset = np.array([0.0 if at is None else float(at) for at in key.index])
    scale = np.array(image.scale, float)
    for axis, origin, step in zip(key.displayed, picture.origin, picture.step, strict=True):
        offset[axis] = origin
        scale[axis] *= step
    moved = np.asarray(image.data_to_world(offset)) - np.asarray(image.data_to_world(np.zeros(image.ndim)))
    # The affine acts after the translation.
    translate = np.array(image.translate, float) + np.linalg.solve(image.affine.linear_matrix, moved)
    place = placed_like(image) | {"scale": scale, "translate": translate}
    return {"data": pixels.reshape(*shape, 3), **place}
