"""The networks on an NVIDIA GPU: do they agree with the CPU, and how near are they to what the device can do.

    python benchmarks/gpu.py          # torch and napari_sam/models alone; random weights; under three minutes

Rates are shares of the device's own matrix rate in the same precision, measured in the same run.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from networks import filled

from napari_sam.models import SPECS, ViTSpec
from napari_sam.models.captured import CapturedDecoder
from napari_sam.models.layers import RelativeAttention, decomposed_bias, relative_table
from napari_sam.models.specs import EMBEDDING_STRIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_sam.models.mask_decoder import ImageSide

PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
GPU = torch.device("cuda")


def best(work: Callable[[], Any], rounds: int = 5, seconds: float = 1.5) -> float:
    """Return the seconds of the fastest of some rounds, the device waited for."""
    work()
    torch.cuda.synchronize()
    fastest, started = float("inf"), time.perf_counter()
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - start)
        if time.perf_counter() - started > seconds:
            break
    return fastest


def matrix_rate(dtype: torch.dtype, size: int = 8192) -> float:
    """Return the multiplications and additions per second of one large matrix product."""
    a, b = (torch.randn(size, size, device=GPU, dtype=dtype) for _ in range(2))
    return 2 * size**3 / best(lambda: a @ b)


def operations(spec: ViTSpec) -> float:
    """Return the multiplications and additions of the published encoder, its padded windows included."""
    grid = spec.image_size // spec.patch_size
    tokens = grid * grid
    padded = (-(-grid // spec.window) * spec.window) ** 2
    total = 2.0 * tokens * spec.width * (3 * spec.patch_size**2 + spec.neck) + 2 * tokens * 9 * spec.neck**2
    for index in range(spec.depth):
        is_global = index in spec.global_blocks
        seen, side = (tokens, grid) if is_global else (padded, spec.window)
        total += 2 * seen * spec.width * 4 * spec.width + 4 * tokens * spec.width * spec.mlp_ratio * spec.width
        total += 4 * seen * side * side * spec.width + 4 * seen * side * spec.width
    return total


def error(ours: Tensor, reference: Tensor) -> float:
    """Return |ours - reference| / |reference|."""
    ours, reference = ours.double().cpu(), reference.double().cpu()
    return float((ours - reference).norm() / reference.norm())


def section(work: Callable[..., None], *arguments: Any) -> None:
    """Do one part; what goes wrong there does not lose the others."""
    print(f"\n== {work.__doc__.splitlines()[0]} {[str(a) for a in arguments]}", flush=True)  # type: ignore[union-attr]
    started = time.perf_counter()
    try:
        with torch.inference_mode():
            work(*arguments)
    except Exception:  # noqa: BLE001  of any kind: printed, and the next part is measured all the same
        traceback.print_exc(file=sys.stdout)
    torch.cuda.empty_cache()
    print(f"   ({time.perf_counter() - started:.1f} s)", flush=True)


def agreement(name: str) -> None:
    """Compare encoder and decoder with the CPU's float32."""
    sam = filled(name)
    size = SPECS[name].image_size
    pixels = torch.randn(1, 3, size, size)
    points, labels = torch.tensor([[[200.0, 300.0]]]) * size / 1024, torch.ones(1, 1, dtype=torch.int64)
    expected = sam.encode(pixels)
    logits, iou = sam.decode(expected, points, labels, multimask=True)
    sam.to(GPU)
    for dtype in PRECISIONS:
        sam.image_encoder.to(dtype)
        features = sam.encode(pixels.to(GPU))
        got, score = sam.decode(features, points.to(GPU), labels.to(GPU), multimask=True)
        exact, _ = sam.decode(expected.to(GPU), points.to(GPU), labels.to(GPU), multimask=True)
        inside, outside = got.cpu() > 0, logits > 0
        iou_of_masks = float((inside & outside).sum() / (inside | outside).sum())
        print(
            f"{name:8} {dtype!s:15} features {error(features, expected):.1e}  logits {error(got, logits):.1e}  "
            f"logits of the same features {error(exact, logits):.1e}  scores {error(score, iou):.1e}  "
            f"IoU of masks {iou_of_masks:.4f}"
        )


def encoding(name: str, rates: dict[torch.dtype, float]) -> None:
    """Time encoders: share of the matrix rate, peak memory, by the tokens that one bias covers."""
    sam = filled(name).to(GPU)
    spec, usual = SPECS[name], RelativeAttention.query_chunk
    for dtype in PRECISIONS:
        sam.image_encoder.to(dtype)
        pixels = torch.randn(1, 3, spec.image_size, spec.image_size, device=GPU, dtype=dtype)
        chunks = (256, 1024, 4096) if isinstance(spec.encoder, ViTSpec) else (0,)
        for chunk in chunks:
            RelativeAttention.query_chunk = chunk
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            seconds = best(lambda p=pixels: sam.encode(p))  # type: ignore[misc]
            peak = torch.cuda.max_memory_allocated() - held
            share = ""
            if isinstance(spec.encoder, ViTSpec):
                share = f"{operations(spec.encoder) / seconds / rates[dtype]:6.2f} of the matrix rate"
            print(
                f"{name:8} {dtype!s:15} chunk {chunk:5d} {1e3 * seconds:8.2f} ms {share}  peak {peak / 2**20:6.0f} MB"
            )
    RelativeAttention.query_chunk = usual


def attention(width: int, heads: int, grid: int, windows: int) -> None:
    """Time ways of attention with relative positions (width, heads, side, windows)."""
    torch.manual_seed(1)
    c = width // heads
    for dtype in (torch.bfloat16, torch.float16):
        q, k, v = torch.randn(3, windows, heads, grid * grid, c, device=GPU, dtype=dtype).unbind(0)
        tables = [relative_table(0.1 * torch.randn(2 * grid - 1, c, device=GPU), grid).to(dtype) for _ in range(2)]
        some = min(windows, 2)
        reference = _masked(*(x[:some].float() for x in (q, k, v)), *(t.float() for t in tables), grid)
        ways: dict[str, Callable[[], Tensor]] = {
            "without positions": lambda q=q, k=k, v=v: F.scaled_dot_product_attention(q, k, v),  # type: ignore[misc]
            "folded": lambda q=q, k=k, v=v, t=tables: _folded(q, k, v, *t, grid),  # type: ignore[misc]
        }
        for rows in sorted({max(1, grid // 16), max(1, grid // 4), grid}):
            ways[f"masked {rows} rows"] = (
                lambda q=q, k=k, v=v, t=tables, r=rows: _masked(q, k, v, *t, r)  # type: ignore[misc]
            )
        for way, work in ways.items():
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()
            seconds = best(work, 10)
            peak = (torch.cuda.max_memory_allocated() - held) / 2**20
            wrong = error(work()[:some], reference)
            print(f"{dtype!s:15} {way:18} {1e3 * seconds:7.3f} ms  error {wrong:.1e}  peak {peak:5.0f} MB")


def _masked(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, rows: int) -> Tensor:
    width = len(table_w)
    parts = []
    for top in range(0, width, rows):
        queries = q[:, :, top * width : (top + rows) * width]
        bias = decomposed_bias(queries, table_h[top : top + rows], table_w)
        bias = bias.view(len(q), q.shape[1], -1, k.shape[2])
        parts.append(F.scaled_dot_product_attention(queries, k, v, attn_mask=bias))
    return torch.cat(parts, dim=2)


def _folded(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, side: int) -> Tensor:
    """Positions as further channels of queries and keys: no mask at all, so that the flash kernel takes it."""
    batch, heads, count, channels = q.shape
    grid = q.view(batch * heads, side, side, channels)
    by_row = torch.einsum("brwc,rkc->brwk", grid, table_h).reshape(batch, heads, count, side)
    by_column = torch.einsum("brwc,wkc->brwk", grid, table_w).reshape(batch, heads, count, side)
    place = torch.eye(side, device=q.device, dtype=q.dtype)
    rows = place.repeat_interleave(side, 0).expand(batch, heads, -1, -1)
    columns = place.repeat(side, 1).expand(batch, heads, -1, -1)
    spare = -(channels + 2 * side) % 8
    queries = F.pad(torch.cat([q * channels**-0.5, by_row, by_column], -1), (0, spare))
    keys = F.pad(torch.cat([k, rows, columns], -1), (0, spare))
    values = F.pad(v, (0, queries.shape[-1] - channels))
    return F.scaled_dot_product_attention(queries, keys, values, scale=1.0)[..., :channels]


def decoding() -> None:
    """Time one prompt decoded as it comes, and from a captured graph, with its logits on the host."""
    for name in ("vit_b", "default"):
        sam = filled(name).to(GPU)
        grid = sam.spec.image_size // EMBEDDING_STRIDE
        side = sam.image_side(torch.randn(1, sam.spec.decoder.width, grid, grid, device=GPU))
        captured, labels = CapturedDecoder(sam), torch.ones(1, 1, dtype=torch.int64, device=GPU)

        def asked(
            decode: Callable[..., tuple[Tensor, Tensor]],
            place: float,
            side: ImageSide = side,
            labels: Tensor = labels,
        ) -> Tensor:
            points = torch.tensor([[[place, place]]]).to(GPU)
            return decode(side, points=points, labels=labels, boxes=None, multimask=True)[0].cpu()

        eager, graph = (best(lambda d=d: asked(d, 77.0), 30) for d in (sam.decode, captured.decode))  # type: ignore[misc]
        wrong = error(asked(captured.decode, 50.0), asked(sam.decode, 50.0))
        print(
            f"{name:8} eager {1e3 * eager:6.2f} ms  graph {1e3 * graph:6.2f} ms  error {wrong:.1e}  {captured.failure}"
        )


def main() -> None:
    """Run every part."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if not torch.cuda.is_available():
        sys.exit("this machine has no usable CUDA device")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    rates = {dtype: matrix_rate(dtype) for dtype in PRECISIONS}
    print("matrix rate:", ", ".join(f"{dtype!s} {rate / 1e12:.1f} TFLOP/s" for dtype, rate in rates.items()))
    for name in ("vit_b", "vit_t", "default"):
        section(agreement, name)
    for name in ("vit_b", "vit_l", "vit_h", "vit_t", "default"):
        section(encoding, name, rates)
    section(attention, 768, 12, 64, 1)
    section(attention, 1280, 16, 64, 1)
    section(attention, 1280, 16, 14, 25)
    section(decoding)


if __name__ == "__main__":
    main()
