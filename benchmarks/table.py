"""How fast everything is beside the published way and beside what the machine can do, each with its bar, in one run.

    python benchmarks/table.py                    # on two cores some five minutes
    python benchmarks/table.py --large            # ViT-L and ViT-H too: a quarter of an hour, 4 GB of memory
    python benchmarks/table.py --only decoding    # or encoders, masks, cache, layer, memory, breath

Weights are random. What is compared is timed in turns, the fastest of several: only the ratios mean something, and
those only on a machine that does nothing else, or with `--threads 1`, which counts the processor's time. With an NVIDIA
GPU the encoders and the decoder are timed there too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import published
import torch
from networks import filled
from torch.utils.flop_counter import FlopCounterMode

from napari_sam import Prompts
from napari_sam.checkpoints import LoadedCheckpoint
from napari_sam.embedding_cache import DiskStore, EmbeddingCache
from napari_sam.geometry import Frame, Profile, whole
from napari_sam.masks import Mask
from napari_sam.models import SPECS, ViTSpec, build_sam
from napari_sam.models.placement import prepare_for_inference
from napari_sam.predictor import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

FOLDER = Path(__file__).parent
CPU = torch.device("cpu")
GPU = torch.device("cuda")
BARS = {
    "cpu": {"vit_b": (1.5, 0.8), "vit_l": (None, 0.8), "vit_h": (None, 0.8), "vit_t": (1.4, 0.6)},
    "cuda": {"vit_h": (None, 0.5)},
}
"""For each encoder: how many times as fast as published, and at which share of the matrix rate."""
SIZES = (1024, 2048, 4096, 8192)
OBJECT = 200
"""Pixels across the object whose mask is brought to images of several sizes."""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, its figure, and the bar, of which `at_least` says the side."""

    what: str
    figure: float
    unit: str = ""
    bar: float | None = None
    at_least: bool = True
    note: str = ""

    def __str__(self) -> str:
        held = self.bar is None or (self.figure >= self.bar if self.at_least else self.figure <= self.bar)
        bar = "" if self.bar is None else f"{'>=' if self.at_least else '<='} {self.bar:g}{self.unit}"
        verdict = "" if self.bar is None else "held" if held else "MISSED"
        return f"| {self.what} | {self.figure:.3g}{self.unit} | {bar} | {verdict} | {self.note} |"


def in_turns(works: dict[str, Callable[[], Any]], rounds: int, device: torch.device = CPU) -> dict[str, float]:
    """Return the seconds of the fastest run of each, one after the other in every round; the first round warms up.

    On a CPU with one thread these are the processor's seconds, which other work on the machine hardly changes.
    """
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if is_alone else time.perf_counter
    fastest = dict.fromkeys(works, float("inf"))
    with torch.inference_mode():
        for turn in range(rounds + 1):
            for name, work in works.items():
                start = clock()
                work()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    fastest[name] = min(fastest[name], clock() - start)
    return fastest


def devices() -> list[torch.device]:
    """Return the devices to time."""
    return [CPU, GPU] if torch.cuda.is_available() else [CPU]


def predictor_of(name: str, cache: EmbeddingCache | None = None, device: torch.device = CPU) -> Predictor:
    """Return a predictor of a network with random weights."""
    spec = SPECS[name]
    checkpoint = LoadedCheckpoint(filled(name), spec, Profile("random", spec.image_size), name, f"random {name}")
    return Predictor(checkpoint, device, torch.float32, cache, graphs=True)


def operations(name: str) -> int:
    """Return the multiplications and additions of the published encoder."""
    spec = SPECS[name]
    with torch.device("meta"):
        sam, pixels = build_sam(spec), torch.empty(1, 3, spec.image_size, spec.image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        published.encode(sam, pixels)
    return int(counter.get_total_flops())


# --- the parts ------------------------------------------------------------------------------------------------------


def encoders(names: list[str]) -> Iterator[Row]:
    """Yield each encoder beside its published formulation and beside a large matrix product."""
    for device in devices():
        for name in names:
            yield from encoder(name, device, torch.bfloat16 if device == GPU else torch.float32)


def encoder(name: str, device: torch.device, dtype: torch.dtype) -> Iterator[Row]:
    """Yield what one encoder reaches on one device."""
    spec, sam = SPECS[name], filled(name).to(device)
    sam.image_encoder.to(dtype)
    prepare_for_inference(sam)
    side = 8192 if device == GPU else 2048
    a, b, product = torch.randn(3, side, side, device=device, dtype=dtype)
    # With as many operations as the encoder: one product alone would find a quiet moment that no encoder gets.
    count = operations(name)
    products = max(1, round(count / (2 * side**3)))

    def multiply() -> None:
        for _ in range(products):
            torch.mm(a, b, out=product)

    pixels = torch.randn(1, 3, spec.image_size, spec.image_size, device=device, dtype=dtype)
    seconds = in_turns(
        {
            "products": multiply,
            "published": lambda: published.encode(sam, pixels),
            "ours": lambda: sam.encode(pixels),
        },
        2 if isinstance(spec.encoder, ViTSpec) and device == CPU else 8,
        device,
    )
    bar_beside, bar_share = BARS[device.type].get(name, (None, None))
    about = f"{name} on the {device.type.upper()}, {str(dtype).removeprefix('torch.')}"
    note = f"{seconds['published']:.3g} s and {seconds['ours']:.3g} s"
    yield Row(f"{about}: times as fast as published", seconds["published"] / seconds["ours"], "", bar_beside, note=note)
    rate = products * 2 * side**3 / seconds["products"]
    note = f"{count / 1e9:.3g} GFLOP, matrix products at {rate / 1e9:.4g} GFLOP/s"
    yield Row(f"{about}: share of the matrix rate", count / seconds["ours"] / rate, "", bar_share, note=note)


def decoding() -> Iterator[Row]:
    """Yield the decoding of prompts beside the published decoder."""
    for device in devices():
        predictor = predictor_of("vit_b", device=device)
        sam, image = predictor._sam, np.zeros((1024, 1024, 3), np.uint8)
        embedding = _embedding(predictor, image)
        features, drawn = embedding.regions[0].features, disk(embedding.regions[0].frame)
        clicks = np.random.default_rng(0).uniform(100, 900, (32, 2))
        prompts = [Prompts([click], [1]) for click in clicks]
        points = torch.tensor(clicks[:, None, ::-1].copy(), dtype=torch.float32, device=device)
        labels = torch.ones(len(points), 1, dtype=torch.int64, device=device)

        def plain(sam: Any = sam, features: Any = features, points: Any = points, labels: Any = labels) -> Any:
            logits, iou = published.decode(sam, features, points[:1], labels[:1])
            masks = published.masks(logits, (1024, 1024), (1024, 1024), 1024)
            return masks.cpu(), iou.cpu()

        def ours(
            predictor: Any = predictor, embedding: Any = embedding, prompts: Any = prompts, drawn: Any = drawn
        ) -> Any:
            result = predictor.decode(embedding, prompts[0])
            return [np.asarray(Mask(drawn, mask.frame)) for mask in result.masks]

        seconds = in_turns(
            {
                "published": plain,
                "ours": ours,
                "network published": lambda s=sam, f=features, p=points, n=labels: published.decode(s, f, p[:1], n[:1]),
                "network": lambda o=predictor, e=embedding, p=prompts: o.decode(e, p[0]),
            },
            12,
            device,
        )
        many = in_turns({"many": lambda o=predictor, e=embedding, p=prompts: o.decode_many(e, p)}, 2, device)["many"]
        where = f"on the {device.type.upper()}"
        note = f"{1e3 * seconds['published']:.3g} ms and {1e3 * seconds['ours']:.3g} ms"
        ratio = seconds["published"] / seconds["ours"]
        yield Row(f"one prompt {where}, masks at 1024 px: times as fast as published", ratio, "", 2, note=note)
        note = f"{1e3 * seconds['network published']:.3g} ms and {1e3 * seconds['network']:.3g} ms"
        ratio = seconds["network published"] / seconds["network"]
        yield Row(f"one prompt {where}, logits alone: times as fast as published", ratio, "", 2, note=note)
        if device == GPU:
            yield Row(f"one prompt {where}, logits alone", 1e3 * seconds["network"], " ms", 2, at_least=False)
        yield Row(f"32 prompts {where}: one of them beside one alone", many / len(prompts) / seconds["network"])


def disk(frame: Frame) -> Any:
    """Return the logits of an object of `OBJECT` px, as a trained network would give them."""
    rows, cols = (frame.low_positions(axis) - frame.image_shape[axis] / 3 for axis in (0, 1))
    return (OBJECT / 2 - np.hypot(*np.meshgrid(rows, cols, indexing="ij"))).astype(np.float32)


def masks() -> Iterator[Row]:
    """Yield the way from logits to a mask beside the published upsampling."""
    for size in SIZES:
        frame = Frame((size, size), whole((size, size)), 1024)
        logits = disk(frame)
        held = torch.from_numpy(logits)[None, None]
        seconds = in_turns(
            {
                "published": lambda held=held, size=size: published.masks(held, (1024, 1024), (size, size), 1024),
                "ours": lambda logits=logits, frame=frame: Mask(logits, frame).crop,
            },
            3 if size > 2048 else 10,
        )
        note = f"{1e3 * seconds['published']:.3g} ms and {1e3 * seconds['ours']:.3g} ms"
        ratio = seconds["published"] / seconds["ours"]
        yield Row(f"an object of {OBJECT} px on {size} x {size}: times as fast as published", ratio, note=note)


def cache(names: Sequence[str] = ("vit_t", "default")) -> Iterator[Row]:
    """Yield what finding an embedding costs beside computing it."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            store = DiskStore(Path(folder), 1 << 30)
            size = SPECS[name].image_size
            pixels = np.random.default_rng(0).standard_normal((3, size, size)).astype(np.float32)
            without, within = predictor_of(name), predictor_of(name, EmbeddingCache(store))

            def from_disk(within: Any = within, store: Any = store, pixels: Any = pixels) -> Any:
                within._cache = EmbeddingCache(store)
                return within._features([pixels], lambda _share: None)

            def from_memory(within: Any = within, pixels: Any = pixels) -> Any:
                return within._features([pixels], lambda _share: None)

            def computed(without: Any = without, pixels: Any = pixels) -> Any:
                return without._features([pixels], lambda _share: None)

            seconds = in_turns({"computed": computed, "disk": from_disk, "memory": from_memory}, 8)
        for place in ("memory", "disk"):
            share = 100 * seconds[place] / seconds["computed"]
            note = f"{1e3 * seconds[place]:.3g} ms of {1e3 * seconds['computed']:.4g} ms"
            yield Row(
                f"{name}: from the cache in {place}, of the encoder's time", share, " %", 2, at_least=False, note=note
            )


def layer() -> Iterator[Row]:
    """Yield the way from a prompt to the painted mask on a large image, in a window."""
    command = [sys.executable, str(FOLDER / "prompt_to_mask.py")]
    if not os.environ.get("DISPLAY"):
        if (without_display := shutil.which("xvfb-run")) is None:
            print("prompt to mask on the layer: left out, there is no display")
            return
        command = [without_display, "-a", *command]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    for line in said:
        size, milliseconds, ratio = line.split()[0], line.split()[-3], line.split()[-1]
        bar = 1.3 if size == str(SIZES[-1]) else None
        what = f"prompt to mask on the layer besides the network, {size} px beside {SIZES[0]}"
        yield Row(what, float(ratio), "", bar, at_least=False, note=f"{milliseconds} ms")


def memory(names: list[str]) -> Iterator[Row]:
    """Yield the memory at the peak of an encoding, the interpreter and torch included, less the weights."""
    for name in names:
        said = subprocess.run([sys.executable, __file__, "--peak", name], check=True, capture_output=True, text=True)
        figures = json.loads(said.stdout)
        above = (figures["peak"] - figures["weights"]) / 1e9
        note = f"weights {figures['weights'] / 1e9:.3g} GB, before the encoding {figures['before'] / 1e9:.3g} GB"
        yield Row(f"{name}: peak memory above the weights", above, " GB", 1, at_least=False, note=note)


def peak(name: str) -> None:
    """Encode once in this process, and print what it took."""
    sam, size = build_sam(SPECS[name]), SPECS[name].image_size
    weights = sum(value.numel() * value.element_size() for value in sam.state_dict().values())
    before = _most_held()
    with torch.inference_mode():
        sam.encode(torch.zeros(1, 3, size, size))
    print(json.dumps({"weights": weights, "before": before, "peak": _most_held()}))


def breath(name: str) -> Iterator[Row]:
    """Yield the longest pause of a thread that wants to run every 5 ms while another one encodes."""
    predictor, done, longest = predictor_of(name), threading.Event(), 0.0
    picture = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8)
    predictor.encode(picture)

    def encode() -> None:
        predictor.encode(picture)
        done.set()

    thread = threading.Thread(target=encode)
    thread.start()
    last = time.perf_counter()
    while not done.wait(0.005):
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    thread.join()
    yield Row(f"{name}: longest pause of the main thread while it encodes", 1e3 * longest, " ms", 100, at_least=False)


def _embedding(predictor: Predictor, image: Any) -> Any:
    """Return an embedding of the right shape, random, without running the encoder."""
    size = predictor._sam.spec.embedding_size
    features = torch.randn(1, predictor._sam.spec.embedding_channels, size, size, device=predictor.device)
    predictor._features = lambda inputs, _between, **_: [features] * len(inputs)  # type: ignore[method-assign]
    return predictor.encode(image)


def _most_held() -> int:
    """Return the bytes of memory that this process held at most so far."""
    status = Path("/proc/self/status")
    if status.exists():  # what `getrusage` says on Linux is at least what the process held that started this one
        said = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return 1024 * int(said["VmHWM"].split()[0])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="ViT-L and ViT-H too")
    parser.add_argument("--only", nargs="+", default=[], help="parts to run")
    parser.add_argument("--encoders", nargs="+", choices=SPECS, help="these alone, in place of vit_b, vit_t, default")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch's threads (all cores)")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        return peak(options.peak)
    names = options.encoders or ["vit_b", *(["vit_l", "vit_h"] if options.large else []), "vit_t", "default"]
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "encoders": lambda: encoders(names),
        "decoding": decoding,
        "masks": masks,
        "cache": cache,
        "layer": layer,
        "memory": lambda: memory(names),
        "breath": lambda: breath("vit_b"),
    }
    if unknown := set(options.only) - parts.keys():
        parser.error(f"no part {', '.join(sorted(unknown))}: choose from {', '.join(parts)}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    print("| what | measured | bar | | |\n| --- | --- | --- | --- | --- |")
    for name, part in parts.items():
        if not options.only or name in options.only:
            for row in part():
                print(row, flush=True)
    return None


if __name__ == "__main__":
    main()
