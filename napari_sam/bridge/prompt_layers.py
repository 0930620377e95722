"""Points and shapes layers as an encoding of prompts: making, reading and writing them.

Polarity is the feature `label` of a point, 1 or 0. Prompts with the same value of a feature `object` belong together.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.layers import Points, Shapes

from ..drawn import corners_of, mask_inside, outline, points_along
from ..errors import PromptError
from ..prompt_rows import ObjectPrompts, PromptRow, PromptView, Rows, align, fresh_rows, polarity
from ..prompts import Prompts
from .image_source import full_resolution, placed_like
from .looks import COLOURS, SHAPE_COLOUR, show_colours, show_symbols

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable

    from napari.layers import Image, Layer
    from numpy.typing import NDArray

    from ..planes import SliceKey

LABEL = "label"
CLOSED_SHAPES = ("rectangle", "ellipse", "polygon")
UNFINISHED = ("add_polygon", "add_polygon_lasso")
"""Modes in which napari shows an outline as a path until it is closed."""


def new_points(image: Image) -> Points:
    """Return an empty points layer in the place of `image`, ready to be clicked into."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*categorical", category=RuntimeWarning)
        return Points(
            ndim=image.ndim,
            name=f"{image.name} points",
            features=pd.DataFrame({LABEL: pd.Categorical([], categories=[1, 0])}),
            feature_defaults={LABEL: 1},
            face_color=LABEL,
            face_color_cycle=COLOURS,
            border_color="white",
            size=_point_size(image),
            **placed_like(image),
        )


def _point_size(image: Image) -> float:
    """Return a diameter in image pixels that is easy to see and to hit, and hides little."""
    return float(np.clip(max(full_resolution(image).shape[image.ndim - 2 : image.ndim]) / 60, 3, 16))


def new_shapes(image: Image) -> Shapes:
    """Return an empty shapes layer in the place of `image`, ready for boxes, outlines and strokes."""
    return Shapes(
        ndim=image.ndim,
        name=f"{image.name} shapes",
        features=pd.DataFrame({LABEL: np.zeros(0, int)}),
        feature_defaults={LABEL: 1},
        edge_color=SHAPE_COLOUR,
        face_color="transparent",
        edge_width=1,
        **placed_like(image),
    )


class PromptLayers:
    """The two layers that hold an annotation's prompts.

    Parameters
    ----------
    points, shapes
        The layers; each has its own place in the world.
    image
        The image that the prompts are about.
    """

    def __init__(self, points: Points, shapes: Shapes, image: Image) -> None:
        self.points, self.shapes, self.image = points, shapes, image
        self._is_drawing = False

    def note_drawing(self, *, is_drawing: bool, is_dot: bool = False) -> None:
        """Note that a shape was begun, or finished: until then an outline is no prompt, nor what is a dot yet."""
        self._is_drawing = is_drawing and (is_dot or str(self.shapes.mode) in UNFINISHED)

    @property
    def is_whole(self) -> bool:
        """Whether the layers' tables fit their data; when prompts are removed, the table follows last.

        Shapes that are emptied keep their table for good: without data it counts for nothing.
        """
        return all(len(layer.features) == len(layer.data) for layer in (self.points, self.shapes) if len(layer.data))

    def read(self, known: Rows, pressed: PromptRow | None = None) -> Rows:
        """Return all rows of both layers, with the ids that they have in `known`; new ones own nothing yet.

        A point that is `pressed` counts as the last one of its layer.
        """
        tables = [_table(layer.features, len(layer.data)) for layer in (self.points, self.shapes)]
        points = [
            PromptRow("point", np.array(data, float), features)
            for data, features in zip(self.points.data, tables[0], strict=True)
        ]
        if pressed is not None:
            points.append(pressed)
        shapes = [
            PromptRow(str(kind), np.array(data, float), features)
            for data, kind, features in zip(self.shapes.data, self.shapes.shape_type, tables[1], strict=True)
        ]
        if self._is_drawing:
            del shapes[-1:]
        rows = align(known, points, is_point=True) | align(known, shapes, is_point=False)
        return dict(sorted(rows.items()))

    def show_polarity(self, rows: Rows, ours: Collection[Layer]) -> None:
        """Let the prompts in layers of `ours` look like what they say."""
        points = [row for row in rows.values() if row.is_point]
        shapes = [row for row in rows.values() if not row.is_point]
        if self.points in ours:
            show_symbols(self.points, map(polarity, points))
        if self.shapes in ours:
            show_colours(self.shapes, shapes, map(polarity, shapes))

    def outline(self, picture: NDArray[np.bool_], key: SliceKey) -> None:
        """Add the outline of the pixels of `picture` (height, width) in the plane `key`, as a polygon."""
        self.shapes.add_polygons(self._data_of(outline(picture), key, self.shapes))

    def rows_at(self, places: NDArray[np.floating], key: SliceKey, kind: str) -> Rows:
        """Return positive points at `places` (n, 2) of the plane `key`, each an object of its own."""
        positions = self._data_of(places, key, self.points)
        rows = fresh_rows([PromptRow("point", np.array(at, float), {LABEL: 1}) for at in positions])
        return {row_id: row.owned_by((kind, row_id)) for row_id, row in rows.items()}

    def selected_rows(self, rows: Rows) -> Rows:
        """Return those of `rows` whose points or shapes are selected."""
        chosen: Rows = {}
        for layer, is_point in ((self.points, True), (self.shapes, False)):
            own = [row_id for row_id, row in rows.items() if row.is_point == is_point]
            chosen |= {own[index]: rows[own[index]] for index in sorted(layer.selected_data) if index < len(own)}
        return chosen

    def _data_of(self, places: NDArray[np.floating], key: SliceKey, layer: Layer) -> NDArray[np.floating]:
        """Return `places` (n, 2) of the plane `key` in the data coordinates of a prompt layer (n, d)."""
        positions = np.tile([0.0 if at is None else float(at) for at in key.index], (len(places), 1))
        positions[:, list(key.displayed)] = places
        if not _same_place(layer, self.image):
            positions = np.array([layer.world_to_data(self.image.data_to_world(one)) for one in positions])
        return positions[:, -layer.ndim :]

    def point_at(self, position: NDArray[np.floating]) -> PromptRow:
        """Return the point that a click at `position` (d,) in the points layer's coordinates would place there."""
        return PromptRow("point", np.array(position, float), _table(self.points.feature_defaults, 1)[0])

    def write(self, rows: Rows) -> None:
        """Make the layers hold exactly `rows`; a layer that does already is left alone."""
        current = self.read(rows)
        points = [row for row in rows.values() if row.is_point]
        shapes = [row for row in rows.values() if not row.is_point]
        if points != [row for row in current.values() if row.is_point]:
            _write_points(self.points, points)
        if shapes != [row for row in current.values() if not row.is_point]:
            _write_shapes(self.shapes, shapes)

    def view(self, rows: Rows, key: SliceKey, shape: tuple[int, int]) -> PromptView:
        """Return what `rows` ask about the plane `key` of `shape` (height, width), object by object."""
        here: list[int] = []
        grouped: dict[Hashable, list[tuple[int, PromptRow, NDArray[np.floating]]]] = defaultdict(list)
        notes: dict[str, int] = defaultdict(int)
        aligned = self._aligned()
        for row_id, row in rows.items():
            if (places := self._places(row, key, aligned)) is None:
                continue
            here.append(row_id)
            if problem := _problem(row, places, shape):
                notes[problem] += 1
            else:
                grouped[row.owner].append((row_id, row, places))
        objects = {
            owner: prompts for owner, group in grouped.items() if (prompts := _object_prompts(group, shape)) is not None
        }
        note = " ".join(f"{count} {problem}." for problem, count in notes.items())
        return PromptView(objects, tuple(here), note)

    def places(self, row: PromptRow, key: SliceKey) -> NDArray[np.floating] | None:
        """Return a row's points (n, 2) in the plane `key`, None if it does not lie in it."""
        return self._places(row, key, self._aligned())

    def _places(self, row: PromptRow, key: SliceKey, aligned: Collection[Layer]) -> NDArray[np.floating] | None:
        layer = self.points if row.is_point else self.shapes
        positions = np.atleast_2d(row.data)
        if layer not in aligned:
            positions = np.array([self.image.world_to_data(layer.data_to_world(p))[-len(p) :] for p in positions])
        return key.in_plane(positions) if all(key.holds(position) for position in positions) else None

    def _aligned(self) -> list[Layer]:
        """Return those layers whose data coordinates are the image's."""
        return [layer for layer in (self.points, self.shapes) if _same_place(layer, self.image)]


def _object_prompts(
    group: list[tuple[int, PromptRow, NDArray[np.floating]]], shape: tuple[int, int]
) -> ObjectPrompts | None:
    """Return one object's prompts; None if what there is only says where it is not.

    A rectangle is a box. Any other closed shape is a box, and its inside a mask; so are several closed shapes of one
    object, which are one area together.
    """
    points = [
        (place, polarity(row) or 0)
        for _, row, places in group
        if row.joins_active
        for place in (places if row.is_point else points_along(places))
        if is_inside(place[None], shape)
    ]
    closed = [(row.kind, corners_of(row.kind, places)) for _, row, places in group if not row.joins_active]
    boxes = [np.concatenate([corners.min(0), corners.max(0)]) for _, corners in closed]
    mask = None
    if len(closed) > 1 or any(kind != "rectangle" for kind, _ in closed):
        mask = mask_inside([corners for _, corners in closed], shape)
        boxes = [np.concatenate([np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]])]
    if not boxes and not any(positive for _, positive in points):
        return None
    prompts = Prompts([p for p, _ in points], [positive for _, positive in points], boxes, mask)
    return ObjectPrompts(prompts, tuple(row_id for row_id, _, _ in group))


def _problem(row: PromptRow, places: NDArray[np.floating], shape: tuple[int, int]) -> str:
    """Return why a row is left out, or nothing."""
    if not (np.isfinite(places).all() and np.isfinite(row.data).all()):
        return "with a position that is not a number left out"
    if not row.joins_active and row.kind not in CLOSED_SHAPES:
        return f"of type {row.kind} left out: draw a rectangle, an ellipse, a polygon or a path"
    if row.joins_active and polarity(row) is None:
        return "with a label other than 1 and 0 left out"
    return "" if is_inside(places, shape) else "outside the image left out"


def is_inside(places: NDArray[np.floating], shape: tuple[int, int]) -> bool:
    """Whether the box of `places` (n, 2) meets the pixels of a plane of `shape` (height, width)."""
    return bool(((places.max(0) >= -0.5) & (places.min(0) <= np.array(shape) - 0.5)).all())


def check_bindable(layer: Layer, kind: type[Layer], image: Image) -> None:
    """Raise `PromptError` unless `layer` can hold prompts about `image`."""
    if not isinstance(layer, kind):
        raise PromptError(f"{layer!r} is a {type(layer).__name__} layer: give a {kind.__name__} layer")
    if not 2 <= layer.ndim <= image.ndim:
        raise PromptError(f"layer {layer.name!r} has {layer.ndim} dimensions, image {image.name!r} has {image.ndim}")


def _table(features: pd.DataFrame, count: int) -> list[dict[str, Any]]:
    """Return the features of `count` prompts, a dictionary each; None stands for every kind of missing value."""
    features = features.iloc[:count].astype(object)
    features = features.where(features.notna(), None)
    if not len(features.columns):
        return [{} for _ in range(count)]
    return [dict(zip(features.columns, row, strict=True)) for row in features.itertuples(index=False, name=None)]


def _frame(rows: list[PromptRow], layer: Points | Shapes) -> pd.DataFrame:
    """Return the rows' features as a table with the layer's own columns and types."""
    if not rows:
        return layer.features.iloc[:0]
    table = pd.DataFrame([dict(row.features) for row in rows], columns=layer.features.columns)
    for name, column in layer.features.items():
        with suppress(TypeError, ValueError):  # say a column that is younger than the rows, with nothing to fill it
            table[name] = table[name].astype(column.dtype)
    return table


def _write_points(layer: Points, rows: list[PromptRow]) -> None:
    table, defaults = _frame(rows, layer), layer.feature_defaults
    layer.selected_data = set()
    layer.data = np.array([row.data for row in rows]).reshape(-1, layer.ndim)
    if len(rows) and len(table.columns):
        layer.features = table
        layer.feature_defaults = defaults


def _write_shapes(layer: Shapes, rows: list[PromptRow]) -> None:
    table = _frame(rows, layer)
    layer.selected_data = set()
    layer.data = [(row.data, row.kind) for row in rows]
    if len(rows) and len(table.columns):
        layer.features = table


def _same_place(layer: Layer, other: Layer) -> bool:
    """Whether two layers' data coordinates mean the same places."""
    if layer.ndim != other.ndim:
        return False
    corners = np.vstack([np.zeros(layer.ndim), np.eye(layer.ndim)])
    return all(np.allclose(other.world_to_data(layer.data_to_world(corner)), corner) for corner in corners)
