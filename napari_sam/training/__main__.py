"""`python -m napari_sam.training`, see `command`."""

from __future__ import annotations

import argparse

from napari_sam.training.command import DESCRIPTION, add_options


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m napari_sam.training", description=DESCRIPTION, formatter_class=formatter
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
