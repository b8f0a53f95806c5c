"""Charts over many records: speed-ups by beams, and what a sweep's parameter changes. Titles state the finding."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from specbeam.reports.record_report import speed_finding
from specbeam.reports.record_speed import SpeedPoint, Sweep, medians

from .palette import COLOURS, GREY, MARKERS
from .plot_style import ShownFigure

COLUMNS = 3  # panels beside each other
LABELS = 6  # lines that a panel's legend names


def speed_over_runs(points: Sequence[SpeedPoint]) -> Figure:
    """Speed-ups against the number of beams, a panel for each notebook.

    A line goes through the medians of a series, a broken one where the method promises no equal tokens. Raises
    ValueError when there are no points.
    """
    if not points:
        raise ValueError("no record holds a speed-up: run one of the notebooks 02 to 07, or make bench")
    notebooks = sorted({point.notebook for point in points})
    figure, panels = _panels(len(notebooks), height=3.1)
    beams = sorted({point.num_beams for point in points})
    speeds = [point.speedup for point in points if point.speedup > 0]
    for axes, notebook in zip(panels, notebooks, strict=True):
        mine = [point for point in points if point.notebook == notebook]
        axes.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
        for number, series in enumerate(dict.fromkeys(point.series for point in mine)):
            line = [(float(p.num_beams), p.speedup) for p in mine if p.series == series]
            exact = all(point.exact for point in mine if point.series == series)
            _line(axes, line, series, number, "-" if exact else "--")
        axes.set_xscale("log", base=2)
        axes.set_xticks(beams, [str(count) for count in beams])
        axes.minorticks_off()
        axes.set_xlim(beams[0] / 1.4, beams[-1] * 1.4)
        axes.set_yscale("log", base=2)
        axes.set_ylim(min(1, *speeds) / 1.2, max(1, *speeds) * 1.2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("num_beams (1: greedy)")
        axes.set_title(notebook, fontsize=10)
        _legend(axes)
    panels[0].set_ylabel("speed (× the notebook's baseline)")
    figure.suptitle(speed_finding(points).replace("; ", ";\n"))
    return figure


def sweep_lines(sweeps: Sequence[Sweep]) -> Figure:
    """What a metric does while a parameter grows, a panel for each sweep. Raises ValueError when there are none."""
    if not sweeps:
        raise ValueError("no notebook was run with several values of a number: specbeam sweep does that")
    figure, panels = _panels(len(sweeps), height=3.3)
    for axes, sweep in zip(panels, sweeps, strict=True):
        for number, (label, line) in enumerate(sweep.lines.items()):
            _line(axes, line, textwrap.shorten(label, 44, placeholder=" …"), number)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel(sweep.parameter)
        axes.set_ylabel(sweep.metric.replace("_", " "))
        axes.set_title(f"{sweep.notebook}:\n{textwrap.fill(sweep.reading, 48)}", fontsize=10, loc="left")
        if any(sweep.lines):
            _legend(axes)
    return figure


def _panels(count: int, height: float) -> tuple[ShownFigure, list[Any]]:
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = ShownFigure(figsize=(max(6.0, 3.9 * columns), height * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[:count]:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels[:count]


def _line(axes: Any, line: Sequence[tuple[float, float]], label: str, number: int, style: str = "-") -> None:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    axes.plot(*zip(*line, strict=True), color=colour, marker=marker, linestyle="none", markersize=4, alpha=0.6)
    if len(middle := medians(line)) > 1:
        axes.plot(*zip(*middle, strict=True), color=colour, linewidth=1.4, linestyle=style)
    shown = label if number < LABELS else f"_{label}"  # matplotlib leaves labels with an underscore out
    axes.plot([], [], color=colour, marker=marker, markersize=4, linestyle=style, label=shown or "_")


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=7)
