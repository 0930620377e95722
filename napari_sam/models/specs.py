"""One frozen description per architecture, in one table.

A spec holds sizes alone, so that it can be compared, printed and stored beside weights. `toy_*` are the same networks
at sizes that a test runs in milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

EMBEDDING_STRIDE = 16
"""Input pixels along one side of a cell of the image embedding, the same for every encoder."""


@dataclass(frozen=True)
class ViTSpec:
    """Sizes of SAM's ViT image encoder.

    `window` is the side of the windowed blocks in tokens; blocks listed in `global_blocks` see the whole image.
    """

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    image_size: int = 1024
    patch_size: int = EMBEDDING_STRIDE
    mlp_ratio: float = 4.0
    window: int = 14
    neck: int = 256


@dataclass(frozen=True)
class TinyViTSpec:
    """Sizes of the TinyViT image encoder: four stages, the first one convolutional.

    `strides` are those of the three mergings between the stages; `classes` is the width of the classification head,
    which MobileSAM's file still carries (0: no such head); a classifier has no `neck` (0). With `details`, fine
    features of the first two stages follow the embedding's own channels, for the mask decoder's upscaling.
    `stochastic_depth` acts in training alone.
    """

    widths: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    windows: tuple[int, int, int, int]
    image_size: int = 1024
    strides: tuple[int, int, int] = (2, 2, 1)
    mlp_ratio: float = 4.0
    mbconv_ratio: float = 4.0
    neck: int = 256
    classes: int = 0
    details: bool = False
    stochastic_depth: float = 0.0

    @property
    def name(self) -> str:
        """What to call it."""
        return f"TinyViT of widths {', '.join(map(str, self.widths))}"


@dataclass(frozen=True)
class PlainViTSpec:
    """Sizes of a plain ViT: a class token, learned positions, every block sees all tokens.

    `positions` are one vector for each place and the class token ("places"), or the sum of one for the row and one for
    the column ("axes"). `pool` says what the classification head of `classes` outputs looks at: the class token, or the
    mean of the patches; `pooler` adds the linear layer that some files keep behind the class token. `layer_scale` gives
    each branch of a block a learned gain. `dropout` and `stochastic_depth` act in training alone.
    """

    width: int
    depth: int
    heads: int
    image_size: int = 224
    patch_size: int = 16
    channels: int = 3
    mlp_ratio: float = 4.0
    positions: Literal["places", "axes"] = "places"
    pool: Literal["class", "mean"] = "class"
    classes: int = 0
    pooler: bool = False
    layer_scale: bool = False
    norm_eps: float = 1e-6
    dropout: float = 0.0
    stochastic_depth: float = 0.0

    @property
    def name(self) -> str:
        """What to call it."""
        return f"plain ViT of width {self.width}, depth {self.depth}, patches of {self.patch_size} px"


@dataclass(frozen=True)
class DecoderSpec:
    """Sizes of the mask decoder; `width` is also that of the prompt encoder and of the image embedding."""

    depth: int = 2
    width: int = 256
    heads: int = 8
    mlp: int = 2048
    iou_depth: int = 3
    iou_hidden: int = 256


@dataclass(frozen=True)
class SamSpec:
    """An image encoder and a mask decoder that fit each other."""

    name: str
    encoder: ViTSpec | TinyViTSpec
    decoder: DecoderSpec = field(default_factory=DecoderSpec)

    def __post_init__(self) -> None:
        """Refuse an encoder whose neck is not as wide as the decoder."""
        if self.encoder.neck != self.decoder.width:
            raise ValueError(f"{self.name}: neck {self.encoder.neck} does not fit decoder width {self.decoder.width}")

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.encoder.image_size

    @property
    def embedding_size(self) -> int:
        """Side of the image embedding in cells."""
        return self.image_size // EMBEDDING_STRIDE

    @property
    def embedding_channels(self) -> int:
        """Channels of the image embedding, its details included."""
        return self.encoder.neck * (4 if isinstance(self.encoder, TinyViTSpec) and self.encoder.details else 1)

    @property
    def low_resolution(self) -> int:
        """Side of the decoder's logits in pixels."""
        return 4 * self.embedding_size


_TOY_VIT = ViTSpec(image_size=64, width=32, depth=2, heads=2, global_blocks=(1,), window=3, neck=32)
_TOY_TINY_VIT = TinyViTSpec(
    image_size=64, widths=(8, 16, 24, 32), depths=(1, 1, 2, 1), heads=(1, 2, 3, 4), windows=(3, 3, 4, 3), neck=32
)
_TOY_DECODER = DecoderSpec(width=32, heads=2, mlp=64, iou_hidden=32)
_TABLE = (
    SamSpec("vit_b", ViTSpec(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11))),
    SamSpec("vit_l", ViTSpec(width=1024, depth=24, heads=16, global_blocks=(5, 11, 17, 23))),
    SamSpec("vit_h", ViTSpec(width=1280, depth=32, heads=16, global_blocks=(7, 15, 23, 31))),
    SamSpec(
        "vit_t",
        TinyViTSpec(
            widths=(64, 128, 160, 320), depths=(2, 2, 6, 2), heads=(2, 4, 5, 10), windows=(7, 7, 14, 7), classes=1000
        ),
    ),
    SamSpec(
        "default",
        TinyViTSpec(
            image_size=256,
            widths=(40, 96, 160, 192),
            depths=(2, 2, 4, 2),
            heads=(2, 3, 5, 6),  # few and wide ones: on a CPU the attention matrices cost the most
            windows=(8, 8, 16, 16),  # the grids are 64, 32, 16 and 16: both last stages see the whole input
            neck=128,
            details=True,
        ),
        DecoderSpec(width=128, heads=8, mlp=512, iou_hidden=128),
    ),
    SamSpec("toy_vit", _TOY_VIT, _TOY_DECODER),
    SamSpec("toy_tiny_vit", _TOY_TINY_VIT, _TOY_DECODER),
    SamSpec("toy_details", replace(_TOY_TINY_VIT, details=True), _TOY_DECODER),
)

SPECS: dict[str, SamSpec] = {spec.name: spec for spec in _TABLE}
"""Every architecture by name."""


def _tiny_vit_classifier(
    widths: tuple[int, int, int, int], heads: tuple[int, int, int, int], stochastic_depth: float
) -> TinyViTSpec:
    return TinyViTSpec(
        image_size=224,
        widths=widths,
        depths=(2, 2, 6, 2),
        heads=heads,
        windows=(7, 7, 14, 7),
        strides=(2, 2, 2),
        neck=0,
        classes=1000,
        stochastic_depth=stochastic_depth,
    )


TINY_VIT_CLASSIFIERS = {
    "tiny_vit_5m": _tiny_vit_classifier((64, 128, 160, 320), (2, 4, 5, 10), 0.0),
    "tiny_vit_11m": _tiny_vit_classifier((64, 128, 256, 448), (2, 4, 8, 14), 0.1),
    "tiny_vit_21m": _tiny_vit_classifier((96, 192, 384, 576), (3, 6, 12, 18), 0.2),
}
"""The published classifiers of ImageNet's thousand classes, as they were trained."""
