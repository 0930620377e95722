"""The console command: `napari-sam segment IMAGE --point 120,80 --out mask.tif`, and `models`, `cache`, `train`."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from skimage.io import imread, imsave

import napari_sam

from . import embedding_cache
from .checkpoints.download import fetch
from .checkpoints.listing import described, entry_named, listing
from .errors import CheckpointError, ExportError, ImageError, JournalError, NapariSamError
from .export import CSV, TIFF, objects_table, write_labels, write_objects
from .journal import read_journal
from .journal_format import Identified
from .outline import outlined
from .progress import percent
from .prompts import Prompts
from .queries import checked_box
from .training import command as training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

MASK_SUFFIXES = (".png", *TIFF)
MOST_CHANNELS = 16
"""An image with a longer last axis is taken for a stack."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: the terminal's); return the exit code.

    It is 2 for a mistake, and 130 where Ctrl+C stopped the work, as shells have it.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except BrokenPipeError:  # whoever read the output, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (NapariSamError, OSError) as error:
        print(f"napari-sam: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nnapari-sam: stopped", file=sys.stderr)
        return 130
    return 0


def segment(options: argparse.Namespace) -> None:
    """Segment one object of one image file, and write its mask and a picture with the outline."""
    picture_path = options.picture or options.out.with_name(f"{options.out.stem}_outline.png")
    _check_kept([options.image], [options.out, picture_path])
    prompts = _prompts(options)
    image = read_image(options.image, options.slice)
    checked_box(prompts, image.shape[:2])  # before the long work
    predictor = napari_sam.load_predictor(
        options.model,
        device=options.device,
        precision=options.precision,
        progress=percent("loading the model"),
        profile=options.profile,
        cache=embedding_cache.shared_cache() if options.cache else None,
        notify=_say,
    )
    embedding = predictor.encode(image, progress=percent("encoding"))
    embedding = predictor.refine(embedding, image, prompts, progress=percent("looking closer"))
    result = predictor.decode(embedding, prompts)
    mask = result.masks[result.best]
    pixels = np.asarray(mask)
    _write_mask(options.out, pixels)
    imsave(picture_path, outlined(image, embedding.rule, pixels, prompts), check_contrast=False)
    if embedding.rule.note:
        print(embedding.rule.note)
    print(f"{mask.area} pixels, score {result.scores[result.best]:.2f}" if mask.area else "the mask is empty")
    print(f"mask:    {options.out}")
    print(f"picture: {picture_path}")


def _check_kept(read: Sequence[Path], written: Sequence[Path]) -> None:
    """Raise `ExportError` where a result would be written over what is read, or over another result."""
    seen = {path.resolve() for path in read}
    for path in written:
        if path.resolve() in seen:
            raise ExportError(f"{path} would be written over: give the result a name of its own")
        seen.add(path.resolve())


def cache(options: argparse.Namespace) -> None:
    """Show what is stored of images that were encoded, clear it, turn the store on or off, limit its size."""
    settings = embedding_cache.CacheSettings.load()
    if options.do == "clear":
        print(f"freed {_megabytes(embedding_cache.clear())}")
    elif options.do in ("on", "off"):
        settings = replace(settings, on_disk=options.do == "on")
    if options.limit is not None:
        settings = replace(settings, disk_budget=int(options.limit * 1e9))
    if settings != embedding_cache.CacheSettings.load():
        embedding_cache.configure(settings)
    folder = embedding_cache.embeddings_folder()
    entries, size = embedding_cache.DiskStore(folder, settings.disk_budget).usage()
    print(f"embeddings are stored in {folder}" if settings.on_disk else "no embeddings are stored on disk")
    print(f"{entries} entries, {_megabytes(size)} of at most {_megabytes(settings.disk_budget)}: features, no pixels")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _say(message: str) -> None:
    print(f"napari-sam: {message}", file=sys.stderr)


def replay(options: argparse.Namespace) -> None:
    """Rebuild the labels that an annotation in the viewer made, from its journal and the image; no model is run."""
    read, written = (options.journal, options.image, options.labels), (options.out, options.objects)
    _check_kept([path for path in read if path], [path for path in written if path])
    recorded = read_journal(options.journal)
    image = _read_stack(options.image)
    name, ndim = options.image.name, len(recorded.shape)
    if not any(
        Identified(one, ndim, name).resolved == recorded.image for one in _layers_of(image, recorded.image.shape)
    ):
        words = Identified(image, min(ndim, image.ndim), name).resolved.in_words()
        raise JournalError(f"{options.journal} is about another image: {recorded.image.in_words()}, not {words}")
    labels = recorded.labels() if options.labels is None else recorded.paint(_labels_of_shape(options, recorded.shape))
    objects = recorded.table(labels)
    write_labels(options.out, labels, recorded.grid)
    if options.objects is not None:
        write_objects(options.objects, objects_table(labels, objects))
    if recorded.is_partial and options.labels is None:
        print("The labels held objects before: give them with --labels, to have slices that were not changed, too.")
    print(f"{len(objects)} objects, last changed {recorded.last_time}")
    for weights, name in recorded.models.items():
        print(f"outlined with {name}" + (f", weights {weights[:12]}" if weights else ""))
    print(f"labels:  {options.out}")


def _layers_of(image: NDArray[Any], shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Yield the layers of `shape` that napari may show of a file: all of it, or a channel or frame of it."""
    if [side for side in image.shape if side > 1] == [side for side in shape if side > 1]:
        yield image.reshape(shape)
    for axis in range(image.ndim):
        if image.shape[:axis] + image.shape[axis + 1 :] == shape:
            yield from np.moveaxis(image, axis, 0)


def _labels_of_shape(options: argparse.Namespace, shape: tuple[int, ...]) -> NDArray[Any]:
    labels = _read_stack(options.labels)
    if labels.shape != shape or labels.dtype.kind not in "iu":
        raise ImageError(f"{options.labels} is {labels.dtype} of shape {labels.shape}: give integers of shape {shape}")
    return labels


def models(options: argparse.Namespace) -> None:
    """List the checkpoints that have names; with a name, say all of it, and bring its file with --download."""
    if options.name is None and options.download:
        raise CheckpointError(
            "--download brings the file of one checkpoint: name it, as in models mobile_sam --download"
        )
    if options.name is None:
        print(*listing(), sep="\n")
        return
    entry = entry_named(options.name)
    print(*described(entry), sep="\n")
    if options.download:
        path, _ = fetch(entry, percent("downloading"), notify=_say)
        print(f"file:     {path}")


def read_image(path: Path, indices: Sequence[int] = ()) -> NDArray[Any]:
    """Read a picture (height, width) or (height, width, channels); `indices` choose the slice of a stack.

    Raises
    ------
    ImageError
        The file is no image that we can read, the slice does not exist, or one has to be chosen.
    """
    image = _read_stack(path) if indices else _read(path, imread)
    chosen = f"{','.join(map(str, indices))} in {path} of shape {image.shape}"
    try:
        picture: NDArray[Any] = image[tuple(indices)]
    except IndexError as error:
        raise ImageError(f"no slice {chosen}") from error
    if picture.ndim < 2:
        raise ImageError(f"slice {chosen} is no picture: say less")
    if picture.ndim > 3 or (picture.ndim == 3 and picture.shape[2] > MOST_CHANNELS):
        raise ImageError(f"{path} of shape {picture.shape} looks like a stack: choose a slice, for example --slice 0")
    return picture


def _read(path: Path, read_tiff: Callable[[Path], Any]) -> NDArray[Any]:
    """Read all that an image file holds."""
    try:
        if path.suffix.lower() in TIFF:
            return np.asarray(read_tiff(path))
        with path.open("rb") as file:  # by its name, scikit-image leaves a file open that it cannot read
            return np.asarray(imread(file))
    except FileNotFoundError as error:
        raise ImageError(f"no such image: {path}") from error
    except Exception as error:  # broad: readers meet foreign bytes with struct.error, SyntaxError, KeyError and others
        raise ImageError(
            f"cannot read {path} as an image ({_first_line(error)}): give a TIFF, PNG, JPEG, ... file"
        ) from error


def _read_stack(path: Path) -> NDArray[Any]:
    """Read an image file with its axes as they are: scikit-image takes three or four planes for colours."""
    return _read(path, tifffile.imread)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _prompts(options: argparse.Namespace) -> Prompts:
    points = [*options.point, *options.negative]
    labels = [1] * len(options.point) + [0] * len(options.negative)
    return Prompts(points=points, labels=labels, boxes=[options.box] if options.box else [])


def _write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write 255 where `mask` is true and 0 elsewhere."""
    pixels = mask.astype(np.uint8) * 255
    if path.suffix.lower() == ".png":
        imsave(path, pixels, check_contrast=False)
    else:
        tifffile.imwrite(path, pixels, compression="zlib")


def _numbers(count: int, names: str) -> Callable[[str], tuple[float, ...]]:
    """Return a parser of `count` comma-separated numbers, which `names` says in messages."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"{text!r} is not {names}")
        return values

    return parse


def _output(*suffixes: str) -> Callable[[str], Path]:
    """Return a parser of a file to write, which says before the long work what would fail after it."""

    def parse(text: str) -> Path:
        path = Path(text)
        if path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"the name of {text} must end in {' or '.join(suffixes)}")
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"there is no folder {path.parent} to write {path.name} into")
        return path

    return parse


def _indices(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an index or several, as in 3 or 0,3") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="napari-sam", description="Segment Anything, without a viewer.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {napari_sam.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_segment(
        commands.add_parser("segment", help="outline one object of an image file", description=segment.__doc__)
    )
    _add_replay(
        commands.add_parser("replay", help="rebuild labels from a journal and its image", description=replay.__doc__)
    )
    _add_models(commands.add_parser("models", help="the checkpoints that have names", description=models.__doc__))
    _add_cache(commands.add_parser("cache", help="what is stored of encoded images", description=cache.__doc__))
    formatter = argparse.RawDescriptionHelpFormatter
    training.add_options(
        commands.add_parser(
            "train", help="train on your own pictures", description=training.DESCRIPTION, formatter_class=formatter
        )
    )
    return parser


def _add_models(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=models)
    command.add_argument("name", nargs="?", metavar="NAME", help="say all of one: source, licence, what to cite")
    command.add_argument("--download", action="store_true", help="bring its file to this machine now")


def _add_cache(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=cache)
    command.add_argument(
        "do",
        nargs="?",
        default="show",
        choices=("show", "clear", "on", "off"),
        help="default: %(default)s; off leaves what is stored, clear removes it",
    )
    command.add_argument("--limit", type=_gigabytes, metavar="GB", help="how much may be stored")


def _gigabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of gigabytes, as in 2 or 0.5")
    return value


def _add_replay(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=replay)
    command.add_argument("journal", type=Path, metavar="JOURNAL", help="a .jsonl file that the viewer wrote")
    command.add_argument(
        "--image", type=Path, required=True, metavar="IMAGE", help="the file of the image that was annotated"
    )
    command.add_argument(
        "--out", type=_output(*TIFF), required=True, metavar="LABELS", help="the labels: a .tif file, one id per object"
    )
    command.add_argument("--objects", type=_output(*CSV), metavar="CSV", help="a table of the objects, too")
    command.add_argument(
        "--labels", type=Path, metavar="LABELS", help="what the labels held before, if they were not empty"
    )


def _add_segment(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `segment`; places are rows and columns of the image, pixel centres at integers."""
    point, box = _numbers(2, "ROW,COLUMN"), _numbers(4, "ROW0,COL0,ROW1,COL1")
    command.set_defaults(run=segment)
    command.add_argument("image", type=Path, metavar="IMAGE", help="a TIFF, PNG, JPEG, ... file")
    command.add_argument(
        "--point", type=point, action="append", default=[], metavar="R,C", help="a point on the object; may be repeated"
    )
    command.add_argument(
        "--negative", type=point, action="append", default=[], metavar="R,C", help="a point beside it; may be repeated"
    )
    command.add_argument("--box", type=box, metavar="R0,C0,R1,C1", help="a box round the object, its corners included")
    command.add_argument("--slice", type=_indices, default=(), metavar="I[,J]", help="which slice of a stack")
    command.add_argument(
        "--out",
        type=_output(*MASK_SUFFIXES),
        required=True,
        metavar="MASK",
        help="the mask: .tif or .png, 255 on the object",
    )
    command.add_argument(
        "--picture", type=_output(".png"), metavar="PNG", help="the outline on the image (default: MASK_outline.png)"
    )
    command.add_argument(
        "--model", default="default", help="a model's name or a checkpoint file (default: %(default)s)"
    )
    command.add_argument(
        "--profile", help="the preprocessing of a checkpoint file: sam, medsam, micro_sam, vit, ... or a .toml file"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    command.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or float16")
    command.add_argument(
        "--cache",
        action="store_true",
        help="keep embeddings on disk as the viewer does, see napari-sam cache",
    )


if __name__ == "__main__":
    sys.exit(main())
