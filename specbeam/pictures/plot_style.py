"""What all charts share: a Figure that shows itself, panels without a frame, looks of lines, one legend below."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from .drawing import counted
from .figure_text import fit_words
from .palette import COLOURS, GREY, MARKERS


class ShownFigure(Figure):
    """A Figure that a notebook shows whichever backend is active, and once. Its words are nobody's mathematics."""

    def draw(self, renderer: Any) -> None:
        fit_words(self, renderer)
        super().draw(renderer)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def panels(
    count: int, width: float, height: float, *, columns: int | None = None, **options: Any
) -> tuple[ShownFigure, list[Any]]:
    """A figure (inches) with so many axes beside each other, or with `columns` of them in a row.

    `options` are those of `Figure.subplots`.
    """
    figure = ShownFigure(figsize=(width, height), layout="constrained")
    columns = columns or count
    found = list(figure.subplots(math.ceil(count / columns), columns, squeeze=False, **options).flat)
    for axes in found[count:]:
        axes.remove()
    for axes in found[:count]:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, found[:count]


def single_axes(width: float, height: float) -> tuple[ShownFigure, Any]:
    figure, (axes,) = panels(1, width, height)
    return figure, axes


def look(place: int) -> dict[str, Any]:
    """Colour and marker of the line at this place of a legend."""
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}


def rows_with(rows: Sequence[Mapping[str, Any]], name: str, value: Any) -> list[Any]:
    """The rows whose `name` has this value. Raises ValueError with the values that there are if there is none."""
    found = [row for row in rows if row[name] == value]
    if not found:
        known = ", ".join(dict.fromkeys(str(row[name]) for row in rows)) or "none"
        raise ValueError(f"no row has the {name} {value!r}; there are: {known}.")
    return found


def search_name(num_beams: int) -> str:
    return "greedy" if num_beams == 1 else counted(num_beams, "beam")


def unity_line(axes: Any, label: str | None = None, width: float = 1.0) -> None:
    """A dotted line where speed, or steps a pass, is 1."""
    axes.axhline(1, color=GREY, linestyle=":", linewidth=width, label=label)


def log2_ticks(axes: Any, values: list[int], form: str = "d") -> None:
    """A logarithmic x axis with a tick at each of the values."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(values, [format(value, form) for value in values])
    axes.minorticks_off()


def percent(axes: Any) -> None:
    """Shares on the y axis in percent, from 0."""
    axes.set_ylim(0)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def legend_below(figure: Figure, columns: int = 4) -> None:
    """One legend for all panels, below them; a label that several panels have appears once."""
    handles: dict[Any, Any] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
