"""What all figures share: a Figure that shows itself, colours and shapes that can be told apart, and small helpers."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#8C8C8C"
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, "#56B4E9", "#000000")
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "--")


class ShownFigure(Figure):
    """A Figure that a notebook shows whichever backend is active, and once."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def single_axes(width: float, height: float) -> tuple[ShownFigure, Any]:
    figure = ShownFigure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def counted(number: int, noun: str, plural: str = "s") -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"
