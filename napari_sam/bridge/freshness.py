"""Whether the planes of an image still hold the pixels that they held when they were shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from ..pending import ImageSource

READ = 1 << 26
"""Bytes of a plane that are looked at, which takes some hundredths of a second; of larger ones a row of every few."""
READ_SCATTERED = 1 << 22
"""The same where the pixels of a row do not lie side by side in memory."""


class Freshness:
    """Notices that a script has written into the image's array itself, of which napari tells no more than of a refresh.

    Lazy arrays are never read for this, and count as unchanged.
    """

    def __init__(self) -> None:
        self._digests: dict[Hashable, int] = {}

    def is_lost(self, source: ImageSource) -> bool:
        """Whether a plane's pixels are others than when this was asked first."""
        if not isinstance(source.pixels, np.ndarray):
            return False
        now = _digest(source.pixels)
        return self._digests.setdefault(source.key, now) != now

    def forget(self) -> None:
        """Begin anew with every plane."""
        self._digests.clear()


def _digest(plane: NDArray[np.generic]) -> int:
    """Return a sum of the pixels (height, width, ...)."""
    most = READ if plane[:1].flags.c_contiguous else READ_SCATTERED
    seen = plane[:: max(1, -(-plane.nbytes // most))]
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(seen).data)
