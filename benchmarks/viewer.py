"""How the viewer feels: from press to painted mask, the mask under the cursor, and the event loop during encoding.

    python benchmarks/viewer.py                  # needs a display: xvfb-run -a python ... where there is none
    python benchmarks/viewer.py hover --threads 1

Drawing is not counted: windows stay hidden, so that what is measured is ours, and not the graphics of the machine.
Three parts, each measured on one thread count, what is compared side by side in turn:

press    Seconds from a press of the mouse on the canvas to the painted mask, the network not counted: an object of
         200 px on 2D images of several sizes and in a stack. Bar: at most 1.3 times as much as on 1024 x 1024. Then
         the same with the default model and its network counted, decoding on the worker against decoding in place.
hover    Masks a second under a mouse that keeps moving over 2048 x 2048, the default model. Bar: 15.
stalls   The longest time between two turns of the event loop while an image is encoded, by the default model and by an
         encoder of ViT-B's size, against the same time with nothing to do. Bar: 100 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("NAPARI_CONFIG", "")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import napari
import numpy as np
import torch
from mouse import Mouse
from prompt_to_mask import RADIUS, ReadyMade
from qtpy.QtCore import QCoreApplication, QEventLoop, Qt, QTimer

import napari_sam
from napari_sam import worker
from napari_sam.checkpoints.loading import LoadedCheckpoint
from napari_sam.geometry import Profile
from napari_sam.models import SPECS, build_sam
from napari_sam.predictor import Predictor
from napari_sam.worker import ModelChoice, Priority, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPES = {
    "1024 x 1024": (1024, 1024),
    "2048 x 2048": (2048, 2048),
    "8192 x 8192": (8192, 8192),
    "64 x 2048 x 2048": (64, 2048, 2048),
}
BAR_PRESS, BAR_HOVER, BAR_STALL = 1.3, 15.0, 0.1


def main() -> None:
    """Measure what is asked for, and print it beside its bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["press", "hover", "stalls"], help="press, hover, stalls; all")
    parser.add_argument("--rounds", type=int, default=15, help="clicks of each kind")
    parser.add_argument("--seconds", type=float, default=5, help="how long the mouse moves")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    worker.shared_cache = lambda: None  # everything is encoded
    if "press" in options.parts:
        press_to_mask(options.rounds)
        worker_or_in_place(options.rounds)
    if "hover" in options.parts:
        hover_rate(options.seconds)
    if "stalls" in options.parts:
        stalls()


# --- from press to mask ---------------------------------------------------------------------------------------------


def press_to_mask(rounds: int) -> None:
    """Press on images of every shape in turn; print the medians, and their ratios to the first."""
    with replaced(ModelChoice, "load", lambda *_: ReadyMade()):
        annotators = {name: annotated(np.zeros(shape, np.uint8)) for name, shape in SHAPES.items()}
        taken: dict[str, list[float]] = {name: [] for name in annotators}
        rng = np.random.default_rng(0)
        for _ in range(rounds + 1):
            for name, annotator in annotators.items():
                taken[name].append(seconds_per_press(annotator, rng))
        median = {name: float(np.median(seconds[1:])) for name, seconds in taken.items()}
        first = next(iter(median.values()))
        for name, seconds in median.items():
            report(f"press to mask, {name}", f"{1e3 * seconds:.1f} ms", seconds / first, BAR_PRESS)
        for annotator in annotators.values():
            annotator.viewer.close()


def worker_or_in_place(rounds: int) -> None:
    """Press with the default model, each decode in turn on the worker and at once in the main thread."""
    annotator, rng = annotated(drawn(2048)), np.random.default_rng(0)
    predictor, submit = annotator.choice.load(*[lambda *_: None] * 3), Worker.submit

    def decode_at_once(thread: Worker, job: Any) -> None:
        if job.priority is Priority.DECODE:
            job.finish(job.work(predictor, job), None)
        else:
            submit(thread, job)

    taken: dict[str, list[float]] = {"on the worker": [], "in place": []}
    for _ in range(rounds + 1):
        for where, way in zip(taken, (submit, decode_at_once), strict=True):
            with replaced(Worker, "submit", way):
                taken[where].append(seconds_per_press(annotator, rng))
    elsewhere, here = (float(np.median(seconds[1:])) for seconds in taken.values())
    print(
        f"press to mask, default model, 2048 x 2048: decoding on the worker {1e3 * elsewhere:.1f} ms, in place "
        f"{1e3 * here:.1f} ms, {elsewhere / here:.2f} times"
    )
    annotator.viewer.close()


def seconds_per_press(annotator: Any, rng: np.random.Generator) -> float:
    """Press, wait until the mask is painted, release, and clear; return how long the first two took."""
    height, width = annotator.labels.data.shape[-2:]
    mouse, place = Mouse(annotator.viewer), rng.uniform((RADIUS, RADIUS), (height - RADIUS, width - RADIUS))
    start = time.perf_counter()
    mouse.press(tuple(place))
    while not annotator.candidates:
        annotator.mailbox.wait(60)
    seconds = time.perf_counter() - start
    mouse.release(tuple(place))
    annotator.wait(60)
    annotator.clear()
    annotator.wait(60)
    turn()
    return seconds


# --- the mask under the cursor --------------------------------------------------------------------------------------


def hover_rate(seconds: float) -> None:
    """Move the mouse every 10 ms, as a hand does; count the masks that are shown."""
    annotator = annotated(drawn(2048))
    annotator.hover.wanted = True
    mouse, shown, before = Mouse(annotator.viewer), [], 0
    annotator.hover.changed.connect(lambda: shown.append(annotator.hover.mask))
    start = time.perf_counter()
    cpu = 0.0
    moves = iter(range(10**9))

    def move() -> None:
        angle = next(moves) / 30
        mouse.move((1024 + 700 * np.sin(angle), 1024 + 700 * np.cos(1.3 * angle)))

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(move)
    timer.start(10)
    while time.perf_counter() < start + seconds + 1:
        turn()
        if time.perf_counter() < start + 1:  # which warms up
            cpu, before = time.process_time(), len(shown)
    timer.stop()
    count = len(shown) - before
    rate, cost = count / seconds, 1e3 * (time.process_time() - cpu) / max(count, 1)
    print(
        f"hover over 2048 x 2048: {rate:.1f} masks a second (bar: {BAR_HOVER:.0f}) {verdict(rate >= BAR_HOVER)}, "
        f"{cost:.0f} ms of all threads' time for each"
    )
    annotator.viewer.close()


# --- the event loop -------------------------------------------------------------------------------------------------


def stalls() -> None:
    """Encode images, and note how long the event loop stood still meanwhile."""
    viewer = napari.Viewer(show=False)
    idle = longest_turn(lambda spent: spent > 5)
    print(f"longest turn of an idle event loop: {1e3 * idle:.0f} ms")
    viewer.close()
    for name, load in (("default", ModelChoice.load), ("ViT-B, no weights", random_vit_b)):
        with replaced(ModelChoice, "load", load):
            annotator = annotated(drawn(512))  # the model is loaded, and torch imported
            annotator.close()
            image = annotator.viewer.add_image(drawn(2048))
            annotator = napari_sam.annotate(annotator.viewer, image)
            longest = longest_turn(lambda _: not annotator._annotator.is_busy())  # noqa: B023  called at once
            annotator.wait(600)
            report(f"longest turn while encoding, {name}", f"{1e3 * longest:.0f} ms", longest, BAR_STALL)
            annotator.viewer.close()


def longest_turn(is_over: Callable[[float], bool]) -> float:
    """Let the event loop turn, woken every 2 ms, and return the longest time from one waking to the next."""
    wakings = [time.perf_counter()]
    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(lambda: wakings.append(time.perf_counter()))
    timer.start(2)
    while not is_over(wakings[-1] - wakings[0]):
        turn()
    timer.stop()
    return float(np.diff(wakings).max())


def random_vit_b(*_: Any) -> Any:
    """Return a predictor whose encoder is of ViT-B's size; how long it takes does not depend on its weights."""
    spec = SPECS["vit_b"]
    checkpoint = LoadedCheckpoint(build_sam(spec), spec, Profile("random", spec.image_size), "random", "random")
    return Predictor(checkpoint, torch.device("cpu"), torch.float32)


# --- what they share ------------------------------------------------------------------------------------------------


def annotated(image: Any) -> Any:
    """Return an annotation of an image in a viewer of its own, encoded."""
    viewer = napari.Viewer(show=False)
    viewer.add_image(image)
    annotator = napari_sam.annotate(viewer, journal=False)
    annotator.hover.wanted = False
    annotator.wait(600)
    return annotator


def drawn(side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a picture of many discs on a noisy ground."""
    rng = np.random.default_rng(0)
    rows, cols = np.mgrid[:side, :side]
    discs = np.hypot(rows % 256 - 128, cols % 256 - 128) < 90
    return (60 + 120 * discs + rng.normal(0, 12, discs.shape)).clip(0, 255).astype(np.uint8)


def turn() -> None:
    """Let the event loop turn once, for at most a few milliseconds."""
    QCoreApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 5)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put something else in the place of an attribute for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def report(what: str, measured: str, figure: float, bar: float) -> None:
    """Print a line of the table."""
    print(f"{what:44s} {measured:>9s}  {figure:6.2f}  (bar: {bar:g}) {verdict(figure <= bar)}")


def verdict(is_met: bool) -> str:
    """Return a word."""
    return "met" if is_met else "MISSED"


if __name__ == "__main__":
    main()
