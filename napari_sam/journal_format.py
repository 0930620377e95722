"""How an annotation is written down: images, slices, pixels, prompts and objects as JSON, and back.

Pixels are kept as zlib-compressed bits inside their box; places are (row, column) of the slice, pixel centres at
integers, boxes of pixels half-open, boxes of prompts inclusive.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .objects import ObjectClass, ObjectRecord, Piece
from .planes import SliceKey
from .prompt_rows import PromptRow, fresh_rows
from .prompts import Prompts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from .history import Change, Step

FAST = 1
"""zlib's level: commits are not to wait."""
WINDOW = 32
"""Side of the windows of an image that are sampled, in pixels."""

Json = dict[str, Any]


@dataclass(frozen=True)
class ImageIdentity:
    """By what an image is known again: shape, type, a hash of sampled pixels; `name` and `path` say where it was."""

    shape: tuple[int, ...]
    dtype: str
    sample: str
    name: str = field(default="", compare=False)
    path: str | None = field(default=None, compare=False)

    def in_words(self) -> str:
        """Return it for messages."""
        return f"{self.name or 'an image'} of shape {self.shape} and type {self.dtype}, sample {self.sample[:8]}"

    def as_json(self) -> Json:
        """Return it as a JSON object."""
        return {**self.__dict__, "shape": list(self.shape)}

    @classmethod
    def of_json(cls, entry: Json) -> ImageIdentity:
        """Return the identity that a JSON object describes."""
        return cls(tuple(entry["shape"]), entry["dtype"], entry["sample"], entry.get("name", ""), entry.get("path"))


class Identified:
    """An image whose identity is found by whoever asks first, so that a lazy one is read on the worker.

    Parameters
    ----------
    data
        Any array that slices like numpy's, its finest level if it is a pyramid.
    ndim
        Number of its axes without channels; rows and columns are the last two of them.
    """

    def __init__(self, data: Any, ndim: int, name: str = "", path: str | None = None) -> None:
        self._data, self._ndim, self._name, self._path = data, ndim, name, path

    @property
    def path(self) -> str | None:
        """The file of the image, if it came from one."""
        return self._path

    def may_be(self, other: ImageIdentity) -> bool:
        """Whether it is worth asking, by what is known without reading a pixel."""
        return (tuple(self._data.shape), np.dtype(self._data.dtype).name) == (other.shape, other.dtype)

    @cached_property
    def resolved(self) -> ImageIdentity:
        """The identity: five windows of the middle plane are read, four of them between centre and corners."""
        data, hasher = self._data, hashlib.blake2b(digest_size=16)
        shape, dtype = tuple(int(side) for side in data.shape), np.dtype(data.dtype)
        middle = tuple(side // 2 for side in shape[: self._ndim - 2])
        rows, cols = shape[self._ndim - 2 : self._ndim]
        for row, col in ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3)):
            window = tuple(
                slice(start := max(0, at * side // 4 - WINDOW // 2), start + WINDOW)
                for at, side in ((row, rows), (col, cols))
            )
            pixels = np.asarray(data[middle + window])
            hasher.update(np.ascontiguousarray(pixels, dtype.newbyteorder("<")).tobytes())
        return ImageIdentity(shape, dtype.name, hasher.hexdigest(), self._name, self._path)


# Pixels


def packed(where: NDArray[np.bool_]) -> str:
    """Return a bool array as text."""
    return base64.b64encode(zlib.compress(np.packbits(where).tobytes(), FAST)).decode("ascii")


def unpacked(text: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the bool array of `shape` that `packed` made into text."""
    bits = np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), np.uint8)
    return np.unpackbits(bits, count=shape[0] * shape[1]).astype(bool).reshape(shape)


def slice_as_json(key: SliceKey) -> Json:
    """Return a slice as a JSON object."""
    return {"axes": list(key.displayed), "index": list(key.index)}


def slice_of_json(entry: Json) -> SliceKey:
    """Return the slice that a JSON object describes."""
    rows, cols = entry["axes"]
    return SliceKey((rows, cols), tuple(entry["index"]))


def change_as_json(change: Change) -> Json:
    """Return changed pixels as a JSON object: by each id that they have now, a mask inside the box."""
    ids = [int(one) for one in np.unique(change.ids[change.where])]
    masks = [{"id": one, "mask": packed(change.where & (change.ids == one))} for one in ids]
    return {"slice": slice_as_json(change.key), "box": list(change.box), "pixels": masks}


def plane_as_json(key: SliceKey, plane: NDArray[np.integer]) -> Json:
    """Return all ids of a plane as a JSON object."""
    content = base64.b64encode(zlib.compress(np.ascontiguousarray(plane).tobytes(), FAST)).decode("ascii")
    return {"slice": slice_as_json(key), "shape": list(plane.shape), "dtype": plane.dtype.str, "ids": content}


def _plane_of_json(entry: Json) -> NDArray[np.integer]:
    content = zlib.decompress(base64.b64decode(entry["ids"], validate=True))
    ids: NDArray[Any] = np.frombuffer(content, np.dtype(entry["dtype"]))
    return ids.reshape(entry["shape"])


def largest_id(entry: Json) -> int:
    """Return the largest id that a journal's entry writes, 0 if it writes none."""
    ids = [pixels["id"] for change in entry.get("changes", ()) for pixels in change["pixels"]]
    return max(ids + [int(_plane_of_json(base).max(initial=0)) for base in entry.get("base", ())], default=0)


def painted(entry: Json, data: NDArray[np.integer], *, with_base: bool = True) -> NDArray[np.integer]:
    """Write the pixels of a journal's entry into `data`, and return it, or a wider copy if an id does not fit.

    `with_base` says whether to write what the labels held before the annotation began, too.
    """
    if with_base:
        data = base_painted(entry, data)
    for change in entry.get("changes", ()):
        data = change_painted(change, data)
    return data


def base_painted(entry: Json, data: NDArray[np.integer]) -> NDArray[np.integer]:
    """Do so with what the labels held before the annotation began alone."""
    for base in entry.get("base", ()):
        ids = _plane_of_json(base)
        data = _with_room(data, int(ids.max(initial=0)))
        slice_of_json(base["slice"]).plane_of(data)[...] = ids
    return data


def change_painted(change: Json, data: NDArray[np.integer]) -> NDArray[np.integer]:
    """Do so with one change of an entry alone."""
    row0, col0, row1, col1 = change["box"]
    for pixels in change["pixels"]:
        data = _with_room(data, pixels["id"])
        plane = slice_of_json(change["slice"]).plane_of(data)[row0:row1, col0:col1]
        plane[unpacked(pixels["mask"], (row1 - row0, col1 - col0))] = pixels["id"]
    return data


def _with_room(data: NDArray[np.integer], object_id: int) -> NDArray[np.integer]:
    if object_id <= np.iinfo(data.dtype).max:
        return data
    return data.astype(np.promote_types(data.dtype, np.min_scalar_type(object_id)))


# Objects and prompts


def objects_as_json(step: Step, *, back: bool) -> list[Json]:
    """Return how a step, done or turned `back`, left each object that it is about; None for one that is gone."""
    return [
        {"id": object_id, "record": _record_as_json(*((after, before) if back else (before, after)))}
        for object_id, (before, after) in step.records.items()
    ]


def _record_as_json(before: ObjectRecord | None, after: ObjectRecord | None) -> Json | None:
    if after is None:
        return None
    former: Mapping[Any, Piece] = {} if before is None else before.pieces
    keys: list[Any] = [key for key in {**former, **after.pieces} if former.get(key) is not after.pieces.get(key)]
    pieces = [{"slice": slice_as_json(key), "piece": _piece_as_json(after.pieces.get(key))} for key in keys]
    return {"class": after.class_name, "pieces": pieces}


def put_objects(entry: Json, records: dict[int, ObjectRecord]) -> None:
    """Put what a journal's entry says of objects into `records`."""
    for one in entry.get("objects", ()):
        object_id, changed = one["id"], one["record"]
        if changed is None:
            records.pop(object_id, None)
            continue
        pieces = dict(records.get(object_id, ObjectRecord()).pieces)
        for line in changed["pieces"]:
            key = slice_of_json(line["slice"])
            pieces.pop(key, None)
            if line["piece"] is not None:
                pieces[key] = _piece_of_json(line["piece"])
        records[object_id] = ObjectRecord(changed["class"], pieces)


def _piece_as_json(piece: Piece | None) -> Json | None:
    if piece is None:
        return None
    prompts = piece.prompts
    asked = None
    if prompts is not None:
        asked = {name: getattr(prompts, name).tolist() for name in ("points", "labels", "boxes")}
        if prompts.mask is not None:
            picture = np.asarray(prompts.mask)
            asked["mask"] = {"shape": list(picture.shape), "pixels": packed(picture)}
    rows = [
        {"kind": row.kind, "data": row.data.tolist(), "features": dict(_plain(row.features))}
        for row in piece.rows.values()
    ]
    return {"score": piece.score, "prompts": asked, "rows": rows}


def _piece_of_json(entry: Json) -> Piece:
    rows = [PromptRow(one["kind"], np.array(one["data"], float), one["features"]) for one in entry["rows"]]
    return Piece(entry["score"], _prompts_of_json(entry["prompts"]), fresh_rows(rows))


def _prompts_of_json(entry: Json | None) -> Prompts | None:
    if entry is None or not any(entry.values()):
        return None
    mask = entry.get("mask")
    picture = None if mask is None else unpacked(mask["pixels"], tuple(mask["shape"]))
    return Prompts(entry["points"], entry["labels"], entry["boxes"], picture)


def _plain(features: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the features that JSON can hold; others are the user's own, and stay in their layer."""
    for name, value in features.items():
        plain = value.item() if isinstance(value, np.generic) else value
        if plain is None or isinstance(plain, str | int | float):
            yield str(name), plain


def classes_as_json(classes: tuple[ObjectClass, ...]) -> list[Json]:
    """Return all classes as JSON objects."""
    return [dict(one.__dict__) for one in classes]


def classes_of_json(entries: list[Json]) -> tuple[ObjectClass, ...]:
    """Return the classes that JSON objects describe."""
    return tuple(ObjectClass(one["name"], one["colour"], one["value"]) for one in entries)
