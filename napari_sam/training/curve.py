"""The learning curve as a picture, with nothing but PIL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from pathlib import Path

WIDTH, HEIGHT, MARGIN = 900, 420, 50
COLOURS = {
    "click": "#1f77b4",
    "last": "#2ca02c",
    "box": "#d62728",
    "dense": "#aaaaaa",
    "aside click 1": "#17becf",
    "aside click 5": "#8c564b",
    "aside box": "#e377c2",
}


def draw_curve(history: list[dict[str, float]], path: Path) -> None:
    """Draw IoU (0 to 1) and dense loss (clipped to 1) over the minutes of a run."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    pen.rectangle([MARGIN, 20, WIDTH - 10, HEIGHT - MARGIN], outline="black")
    longest = max([row["minutes"] for row in history], default=1.0) or 1.0
    for tenth in range(0, 11, 2):
        height = _down(tenth / 10)
        pen.line([MARGIN, height, WIDTH - 10, height], fill="#dddddd")
        pen.text((15, height - 6), f"{tenth / 10:.1f}", fill="black")
    for place, (name, colour) in enumerate(COLOURS.items()):
        points = [
            (MARGIN + (WIDTH - 10 - MARGIN) * row["minutes"] / longest, _down(min(1.0, row[name])))
            for row in history
            if name in row
        ]
        if len(points) > 1:
            pen.line(points, fill=colour, width=2)
        pen.text((MARGIN + 110 * place, HEIGHT - 20), name, fill=colour)
    pen.text((WIDTH - 90, HEIGHT - MARGIN + 5), f"{longest:.0f} minutes", fill="black")
    picture.save(path)


def _down(value: float) -> float:
    return HEIGHT - MARGIN - value * (HEIGHT - MARGIN - 20)
