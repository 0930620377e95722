"""What holds for the networks whatever their weights."""

from __future__ import annotations

import pytest
import torch
from parity import normal_input, relative_error, state_of_shapes

from napari_sam.models import SPECS, DecoderSpec, Sam, SamSpec, ViTSpec, build_sam, layers
from napari_sam.models.layers import RelativeAttention, join_windows, split_windows
from napari_sam.models.mask_decoder import Attention, _as_pictures, _with_details
from napari_sam.models.placement import prepare_for_inference
from napari_sam.models.tiny_vit import ConvNorm, Details, WindowAttention
from napari_sam.models.vit import Block

TOYS = ["toy_vit", "toy_tiny_vit", "toy_details"]


def filled(name: str) -> Sam:
    """Return a network with weights under which every part of it matters."""
    sam = build_sam(SPECS[name])
    sam.load_state_dict(state_of_shapes({key: tuple(value.shape) for key, value in sam.state_dict().items()}))
    return sam


@pytest.fixture(params=TOYS)
def sam(request: pytest.FixtureRequest) -> Sam:
    return filled(request.param)


def test_default_is_small_and_fits_its_input() -> None:
    spec = SPECS["default"]
    encoder = build_sam(spec).image_encoder
    assert (spec.image_size, spec.embedding_size, spec.low_resolution) == (256, 16, 64)
    assert sum(parameter.numel() for parameter in encoder.parameters()) < 4e6


def test_built_for_evaluation_in_float32(sam: Sam) -> None:
    assert not any(module.training for module in sam.modules())
    assert {parameter.dtype for parameter in sam.parameters()} == {torch.float32}


@pytest.mark.parametrize("size", [16, 48, 96, 128])
def test_every_multiple_of_the_stride_can_be_encoded_and_decoded(sam: Sam, size: int) -> None:
    with torch.inference_mode():
        features = sam.encode(normal_input("sizes", 1, 3, size, size))
        logits, iou = sam.decode(features, boxes=torch.tensor([[1.0, 2, 10, 12]]), multimask=True)
    assert features.shape == (1, sam.spec.embedding_channels, size // 16, size // 16)
    assert logits.shape == (1, 3, size // 4, size // 4)
    assert iou.shape == (1, 3)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("shape", [(1, 3, 64, 48), (1, 3, 60, 60), (1, 1, 64, 64), (3, 64, 64), (1, 3, 0, 0)])
def test_other_inputs_are_refused_with_their_shape(sam: Sam, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=str(shape)[1:-1]):
        sam.encode(torch.zeros(shape))


def test_progress_rises_to_one(sam: Sam) -> None:
    shares: list[float] = []
    sam.encode(normal_input("progress", 1, 3, 64, 64), shares.append)
    assert len(shares) >= 2
    assert shares == sorted(set(shares))
    assert shares[0] > 0
    assert shares[-1] == 1


def test_what_the_callback_raises_ends_the_encoding(sam: Sam) -> None:
    calls: list[float] = []

    def stop(share: float) -> None:
        calls.append(share)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sam.encode(normal_input("stop", 1, 3, 64, 64), stop)
    assert len(calls) == 1


def test_prompts_of_a_batch_are_answered_as_alone(sam: Sam) -> None:
    features = normal_input("shared", 1, 32, 4, 4)
    points, labels = 32 + 9 * normal_input("points", 3, 2, 2), torch.tensor([[1, 0], [1, 1], [0, 1]])
    masks = normal_input("masks", 3, 1, 16, 16)
    with torch.inference_mode():
        together = sam.decode(features, points, labels, masks=masks, multimask=True)
        for k in range(3):
            one = slice(k, k + 1)
            alone = sam.decode(features, points[one], labels[one], masks=masks[one], multimask=True)
            for batch, single in zip(together, alone, strict=True):
                torch.testing.assert_close(batch[one], single)


def test_features_of_several_images_are_not_mixed(sam: Sam) -> None:
    features = normal_input("two images", 2, 32, 4, 4)
    boxes = torch.tensor([[3.0, 4, 50, 40], [10, 10, 30, 20]])
    with torch.inference_mode():
        together, _ = sam.decode(features, boxes=boxes, multimask=False)
        second, _ = sam.decode(features[1:], boxes=boxes[1:], multimask=False)
    torch.testing.assert_close(together[1:], second)


def test_padding_points_say_nothing_about_their_place(sam: Sam) -> None:
    features = normal_input("padding", 1, 32, 4, 4)
    labels = torch.tensor([[1, -1]])
    answers = [
        sam.decode(features, torch.tensor([[[9.0, 9], place]]), labels, multimask=True)[0]
        for place in ([0.0, 0.0], [50.0, 3.0])
    ]
    torch.testing.assert_close(*answers)


def test_points_without_labels_are_refused(sam: Sam) -> None:
    with pytest.raises(ValueError, match="need labels"):
        sam.decode(normal_input("labels", 1, 32, 4, 4), torch.zeros(1, 1, 2), multimask=True)


def test_no_prompt_at_all_gives_one_answer(sam: Sam) -> None:
    logits, _ = sam.decode(normal_input("nothing", 1, 32, 4, 4), multimask=True)
    assert logits.shape == (1, 3, 16, 16)


def test_encoder_at_lower_precision_serves_the_decoder_in_its_own(sam: Sam) -> None:
    pixels = normal_input("precision", 1, 3, 64, 64)
    with torch.inference_mode():
        exact = sam.encode(pixels)
        sam.image_encoder.to(torch.bfloat16)
        coarse = sam.encode(pixels)
    assert coarse.dtype == torch.float32
    assert 0 < relative_error(coarse, exact.numpy()) < 0.1


# --- attention ------------------------------------------------------------------------------------------------------


def test_chunked_attention_equals_unchunked(monkeypatch: pytest.MonkeyPatch) -> None:
    attention = RelativeAttention(32, 2, 8)
    attention.load_state_dict(state_of_shapes({k: tuple(v.shape) for k, v in attention.state_dict().items()}))
    tokens = normal_input("tokens", 2, 8, 8, 32)
    answers = []
    for chunk in (1, 24, 64, 4096):  # one row each, three rows, all at once
        monkeypatch.setattr(RelativeAttention, "query_chunk", chunk)
        answers.append(attention(tokens))
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0])


def test_no_global_block_holds_its_bias_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SamSpec(
        "wide", ViTSpec(width=8, depth=1, heads=1, global_blocks=(0,), neck=8), DecoderSpec(width=8, heads=1, mlp=8)
    )
    sizes: list[int] = []
    original = torch.nn.functional.scaled_dot_product_attention

    def watched(*tensors: torch.Tensor, attn_mask: torch.Tensor) -> torch.Tensor:
        sizes.append(attn_mask.numel())
        return original(*tensors, attn_mask=attn_mask)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    with torch.inference_mode():
        build_sam(spec).encode(torch.zeros(1, 3, 1024, 1024))
    whole = 4096 * 4096
    assert sum(sizes) == whole
    assert max(sizes) <= whole // 4


def test_a_block_is_the_same_in_bands_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = normal_input("bands", 2, 10, 8, 32)
    for window in (0, 3):  # the last row of windows is cut off by the end of the grid
        block = Block(32, 2, 2.0, window, 10)
        block.load_state_dict(state_of_shapes({k: tuple(v.shape) for k, v in block.state_dict().items()}))
        answers = []
        for size in (1, 5000, 1 << 20):
            monkeypatch.setattr(layers, "BAND_SIZE", size)
            answers.append(block(tokens))
            with torch.inference_mode():  # there biases share their memory
                answers.append(block(tokens))
        for answer in answers[1:]:
            torch.testing.assert_close(answer, answers[0])


@pytest.mark.parametrize(("height", "width"), [(7, 7), (14, 7), (9, 13), (3, 20)])
def test_windows_join_to_what_was_split(height: int, width: int) -> None:
    tokens = normal_input("windows", 2, height, width, 5)
    assert torch.equal(join_windows(split_windows(tokens, 7), height, width), tokens)


def test_published_bias_table_is_read_by_distance() -> None:
    attention = WindowAttention(8, 1, 3)
    attention.attention_biases.data = torch.arange(9.0)[None]
    bias = attention.bias(like=torch.empty(0))
    first, centre = 0, 4  # (row 0, column 0), (row 1, column 1) of a window of side 3
    assert bias[0, 0, first].tolist() == list(range(9))
    assert bias[0, 0, centre].tolist() == [4, 3, 4, 1, 0, 1, 4, 3, 4]


# --- nothing derived from weights survives a load -------------------------------------------------------------------


def test_attention_biases_loaded_after_use_take_effect() -> None:
    sam = filled("toy_tiny_vit")
    pixels = normal_input("stale", 1, 3, 64, 64)
    before = sam.encode(pixels)
    state = {key: value.clone() for key, value in sam.state_dict().items()}
    for key in state:
        if key.endswith("attention_biases"):
            state[key] += torch.linspace(0, 5, state[key].numel()).view_as(state[key])
    sam.load_state_dict(state)
    fresh = build_sam(SPECS["toy_tiny_vit"])
    fresh.load_state_dict(state)
    assert not torch.allclose(sam.encode(pixels), before, atol=1e-3)
    assert torch.equal(sam.encode(pixels), fresh.encode(pixels))


def test_loading_after_use_equals_loading_before(sam: Sam) -> None:
    fresh = build_sam(sam.spec)
    pixels = normal_input("after use", 1, 3, 64, 64)
    fresh.encode(pixels)
    fresh.load_state_dict(sam.state_dict())
    assert torch.equal(fresh.encode(pixels), sam.encode(pixels))


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["toy_tiny_vit", "toy_details"])
def test_a_tiny_vit_is_the_same_in_bands_and_whole(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    sam, pixels, answers = filled(name), normal_input("bands", 2, 3, 64, 64), []
    for size in (1, 3000, 1 << 20):
        monkeypatch.setattr(layers, "BAND_SIZE", size)
        answers.append(sam.encode(pixels))
    for answer in answers[1:]:
        torch.testing.assert_close(answer, answers[0])


def test_folding_for_inference_keeps_the_answer_and_the_weights() -> None:
    sam, pixels = filled("toy_tiny_vit"), normal_input("fold", 1, 3, 64, 64)
    before, state = sam.encode(pixels), {key: value.clone() for key, value in sam.state_dict().items()}
    prepare_for_inference(sam)
    assert torch.equal(sam.encode(pixels), before)
    assert sam.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in sam.state_dict().items())


@pytest.mark.parametrize("change", ["load", "train", "convert"])
def test_what_was_folded_does_not_outlive_its_weights(change: str) -> None:
    sam, pixels = filled("toy_tiny_vit"), normal_input("fold", 1, 3, 64, 64)
    prepare_for_inference(sam)
    state = {key: value + 0.1 if value.is_floating_point() else value for key, value in sam.state_dict().items()}
    if change == "load":
        sam.load_state_dict(state)
    elif change == "train":
        sam.train()
        with torch.no_grad():
            for key, parameter in sam.named_parameters():
                parameter.copy_(state[key])
        sam.eval()
    else:
        sam.double()
        assert sam.encode(pixels).dtype == torch.float64
        return
    fresh = build_sam(sam.spec)
    fresh.load_state_dict(sam.state_dict())
    assert torch.equal(sam.encode(pixels), fresh.encode(pixels))


def test_folded_batch_norm_equals_batch_norm() -> None:
    layer = ConvNorm(4, 6, 3, 2)
    layer.load_state_dict(state_of_shapes({key: tuple(value.shape) for key, value in layer.state_dict().items()}))
    pixels = normal_input("batch norm", 2, 4, 9, 9)
    layer.eval()
    torch.testing.assert_close(layer(pixels), layer.bn(layer.c(pixels)))


@pytest.mark.parametrize("training", [True, False])
def test_every_weight_that_a_prompt_uses_gets_a_gradient(sam: Sam, training: bool) -> None:
    sam.train(training)
    features = sam.encode(normal_input("training", 2, 3, 64, 64))
    sparse, dense = sam.prompt_encoder(
        (4, 4),
        torch.tensor([[[3.0, 5], [9, 9], [0, 0]]] * 2),
        torch.tensor([[1, 0, -1]] * 2),
        torch.tensor([[1.0, 2, 30, 40]] * 2),
        normal_input("mask", 2, 1, 16, 16),
    )
    logits, iou = sam.mask_decoder(features, sam.prompt_encoder.dense_pe((4, 4)), sparse, dense)
    (logits.square().mean() + iou.sum()).backward()
    without = [name for name, parameter in sam.named_parameters() if parameter.grad is None]
    assert without == ["prompt_encoder.no_mask_embed.weight"]


def test_details_come_back_in_their_place() -> None:
    fold = Details(widths=(4, 4), neck=16)  # 2 channels at stride 4, 4 at stride 8
    for conv in (fold.quarter, fold.eighth):
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    quarter, eighth = torch.randn(1, 4, 12, 20), torch.randn(1, 4, 6, 10)
    folded = fold(quarter, eighth)
    assert folded.shape == (1, 3 * 16, 3, 5)
    at_quarter = _with_details(torch.zeros(1, 15 * 16, 2), folded[:, 16:])
    assert torch.equal(_as_pictures(at_quarter, 3, 5), quarter[:, :2])
    at_eighth = _with_details(torch.zeros(1, 15 * 4, 4), folded[:, :16]).repeat_interleave(4, dim=1)
    assert torch.equal(_as_pictures(at_eighth, 3, 5)[..., ::2, ::2], eighth)


def test_a_neck_that_does_not_fit_the_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="neck 32 does not fit decoder width 64"):
        SamSpec("odd", SPECS["toy_vit"].encoder, DecoderSpec(width=64))


# --- what is computed once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TOYS, "toy_details"])
def test_prompts_are_answered_alike_from_the_image_side_and_from_features(name: str) -> None:
    sam = filled(name)
    features = normal_input("side", 1, sam.spec.embedding_channels, 4, 4)
    points, labels = 32 + 9 * normal_input("points", 3, 2, 2), torch.tensor([[1, 0], [1, 1], [0, 1]])
    with torch.inference_mode():
        side = sam.image_side(features)
        for multimask in (True, False):
            known = sam.decode(side, points, labels, multimask=multimask)
            fresh = sam.decode(features, points, labels, multimask=multimask)
            for one, other in zip(known, fresh, strict=True):
                torch.testing.assert_close(one, other)


def test_a_mask_wants_the_features_themselves(sam: Sam) -> None:
    side = sam.image_side(normal_input("side", 1, 32, 4, 4))
    with pytest.raises(ValueError, match="a mask changes the image's side"):
        sam.decode(side, masks=torch.zeros(1, 1, 16, 16), multimask=True)


@pytest.mark.parametrize("batches", [(1, 1), (3, 1), (1, 3), (3, 3)])
@pytest.mark.parametrize("counts", [(4, 40), (40, 4), (4, 4), (9, 40)])
def test_layers_of_the_many_are_applied_to_the_few(batches: tuple[int, int], counts: tuple[int, int]) -> None:
    torch.manual_seed(0)
    attention = Attention(width=24, heads=2, inner=16).eval()
    q = torch.randn(batches[0], counts[0], 24)
    k, v = torch.randn(2, batches[1], counts[1], 24)
    plain = attention.of_projected(q, attention.k_proj(k), attention.v_proj(v))
    torch.testing.assert_close(attention(q, k, v), plain)
