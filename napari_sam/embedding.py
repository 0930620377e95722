"""`ImageEmbedding`: what the image encoder made of an image, as a set of regions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .geometry import Box, Frame
    from .image_input import PictureRule


@dataclass(frozen=True, eq=False)
class RegionEmbedding:
    """The encoder's features of one region; `features` is the network's own tensor (1, C, h, w).

    `look` is how its low-resolution cells look (4, h, w), see `appearance.look_of`; None where that is not asked. What
    `is_turned` was encoded with rows and columns exchanged: who looks from another side errs elsewhere.
    """

    frame: Frame
    features: Any = field(repr=False)
    look: NDArray[np.float32] | None = field(default=None, repr=False)
    is_turned: bool = False


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """The regions of one image that have been encoded, and how its values were read.

    Immutable: `merge` gives a new one. `model` identifies the weights that made it.
    """

    rule: PictureRule
    regions: tuple[RegionEmbedding, ...] = field(repr=False)
    model: str

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the whole image."""
        return self.rule.shape

    @property
    def channels(self) -> tuple[int, ...]:
        """The image's channels that the encoder sees; empty if it has no channel axis."""
        return self.rule.channels

    @property
    def limits(self) -> tuple[tuple[float, float], ...] | None:
        """(low, high) of each of those channels, which become 0 and 255; None where values stay as they are."""
        return self.rule.limits

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The encoded regions, half-open (row0, col0, row1, col1)."""
        return tuple(region.frame.region for region in self.regions)

    @property
    def looks(self) -> dict[Frame, NDArray[np.float32]]:
        """How the cells of regions look, where that is known."""
        return {region.frame: region.look for region in self.regions if region.look is not None}

    def merge(self, other: ImageEmbedding) -> ImageEmbedding:
        """Return an embedding with the regions of both; those of `other` win where both have one.

        Raises
        ------
        ValueError
            The two were made by different weights, or of images with another shape, channels or limits.
        """
        for name in ("model", "shape", "channels", "limits"):
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise ValueError(f"cannot merge embeddings: their {name} are {ours} and {theirs}; encode both alike")
        kept = tuple(region for region in self.regions if region.frame.region not in other.boxes)
        return replace(self, regions=kept + other.regions)
