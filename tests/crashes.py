"""Kill an annotation at random moments, again and again, and see that no commit is lost.

    python tests/crashes.py --times 100

Each round starts a process that restores what is there, then commits, deletes, classifies, paints, undoes and redoes as
fast as it can, and tells of every step once it is done. It is killed (SIGKILL), and the journal must give what it told
last, or one step more.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (2, 120, 160)
PATIENCE = 120.0


def digest(labels: np.ndarray[Any, Any], objects: list[Any]) -> str:
    """Return a hash of pixels, classes and scores."""
    table = [(one.id, one.class_name, one.area, one.score) for one in objects]
    return hashlib.blake2b(labels.astype(np.int64).tobytes() + repr(table).encode(), digest_size=8).hexdigest()


def annotate_until_killed(folder: Path, seed: int) -> None:
    """Be the process that is killed."""
    from fakes import FakePredictor
    from napari.components import ViewerModel

    import napari_sam
    from napari_sam.errors import NapariSamError
    from napari_sam.worker import ModelChoice

    ModelChoice.load = lambda *_: FakePredictor()  # type: ignore[assignment,method-assign,return-value]
    chance, viewer = random.Random(seed), ViewerModel()
    viewer.add_image(np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE))
    annotator = napari_sam.annotate(viewer, journal=folder, restore=True)
    print("ready", digest(annotator.labels.data, list(annotator.objects)), flush=True)

    def commit() -> None:
        place = [annotator.viewer.dims.current_step[0], chance.randrange(SHAPE[1]), chance.randrange(SHAPE[2])]
        annotator.points.add([place])
        annotator.wait(PATIENCE)
        annotator.choose(chance.randrange(3))
        annotator.commit(chance.choice(["keep", "replace"]))
        annotator.clear()

    def paint() -> None:
        row, col = chance.randrange(SHAPE[1] - 9), chance.randrange(SHAPE[2] - 9)
        annotator.labels.data_setitem((*np.indices((1, 9, 9)).reshape(3, -1), [0], [row], [col]), 7)

    def some_object() -> int:
        return chance.choice([one.id for one in annotator.objects])

    acts = [commit] * 6 + [paint, annotator.undo, annotator.redo]
    acts.append(lambda: viewer.dims.set_current_step(0, chance.randrange(SHAPE[0])))
    acts.append(lambda: annotator.objects.delete(some_object()))
    acts.append(lambda: annotator.objects.set_class(some_object(), chance.choice(["a", "b", ""])))
    while True:
        try:
            chance.choice(acts)()
        except (NapariSamError, IndexError):
            continue
        print("did", digest(annotator.labels.data, list(annotator.objects)), flush=True)


def kill_once(folder: Path, seed: int) -> int:
    """Start, kill, and compare; return how many steps the process told of."""
    command = [sys.executable, __file__, "--child", str(folder), "--seed", str(seed)]
    before = rebuilt(folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline().split()
        assert ready[:1] == ["ready"], f"seed {seed}: the process did not come up"
        assert ready[1] == before[-1], f"seed {seed}: what was restored is not what the journal holds"
        time.sleep(random.Random(seed).uniform(0, 0.5))
        process.kill()
        lines = process.stdout.read().splitlines(keepends=True)
    told = [ready[1], *(line.split()[1] for line in lines if line.endswith("\n"))]
    after = rebuilt(folder)
    assert told[-1] in after, f"seed {seed}: after {len(told) - 1} steps the journal gives something else"
    return len(told) - 1


def rebuilt(folder: Path) -> list[str]:
    """Return hashes of what the journal gives without its last line, and with it."""
    from dataclasses import replace

    from napari_sam.journal import Recorded, read_journal

    def hashed(recorded: Recorded) -> str:
        labels = recorded.labels()
        return digest(labels, recorded.table(labels))

    empty = digest(np.zeros(SHAPE, np.uint16), [])
    paths = list(folder.iterdir()) if folder.is_dir() else []
    if not paths:
        return [empty]
    assert len(paths) == 1, f"one image, one annotation after the other, but {len(paths)} journals"
    recorded = read_journal(paths[0])
    return [hashed(replace(recorded, entries=recorded.entries[:-1])), hashed(recorded)]


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child is not None:
        return annotate_until_killed(options.child, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        steps = [kill_once(Path(folder, "journals"), options.seed + round_) for round_ in range(options.times)]
    print(
        f"killed {options.times} times, after {min(steps)} to {max(steps)} steps, {sum(steps)} in all: nothing was lost"
    )
    return None


if __name__ == "__main__":
    main()
