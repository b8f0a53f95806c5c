"""What all charts share: colours and shapes that can be told apart, a Figure that shows itself, small helpers."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.figure import Figure

from .drawing import counted
from .palette import BLUE, COLOURS, GREEN, GREY, HATCHES, MARKERS, ORANGE, PURPLE, RED

# charts take their looks from here, SVG pictures from `palette`, which knows no matplotlib
__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "HATCHES",
    "MARKERS",
    "ORANGE",
    "PURPLE",
    "RED",
    "ShownFigure",
    "counted",
    "single_axes",
]


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
