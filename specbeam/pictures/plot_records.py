"""Charts over many records: speed-ups by number of beams, and what a sweep's parameter changes.

The points and lines are plain data, which whoever reads the records hands in. Titles state the finding.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import counted
from .plot_style import log2_ticks, look, panels, unity_line

COLUMNS = 3  # panels beside each other
LABELS = 6  # lines that a panel's legend names


@dataclass(frozen=True)
class SpeedPoint:
    """A speed-up over its notebook's own baseline, the median where there were repeats."""

    run: str
    notebook: str
    series: str  # what decoded
    num_beams: int
    speedup: float
    exact: bool = True  # whether the method promises its baseline's tokens


@dataclass(frozen=True)
class Sweep:
    """A metric of a notebook's runs against one parameter; `lines` holds a line for each setting of the others."""

    notebook: str
    parameter: str
    metric: str
    lines: dict[str, list[tuple[float, float]]]

    @property
    def trend(self) -> str:
        """ "rises", "falls", "stays" or "has no single direction", over the medians of every line."""
        steps = [b[1] - a[1] for line in self.lines.values() for a, b in pairwise(medians(line))]
        if not any(steps):
            return "stays"
        if all(step >= 0 for step in steps):
            return "rises"
        return "falls" if all(step <= 0 for step in steps) else "has no single direction"

    @property
    def reading(self) -> str:
        """The trend in words; with a single line also its ends."""
        found = f"{self.metric.replace('_', ' ')} {self.trend} with {self.parameter}"
        if len(self.lines) > 1:
            return f"{found}, over {len(self.lines)} settings of the other parameters"
        (first, *_, last) = medians(next(iter(self.lines.values())))
        return f"{found}: {last[1]:.3g} at {last[0]:g} after {first[1]:.3g} at {first[0]:g}"


def speed_over_runs(points: Sequence[SpeedPoint]) -> Figure:
    """Speed-ups against the number of beams, a panel for each notebook.

    A line goes through the medians of a series, a broken one where the method promises no equal tokens. Raises
    ValueError when there are no points.
    """
    if not points:
        raise ValueError("no record holds a speed-up: run one of the notebooks 02 to 07, or make bench")
    notebooks = sorted({point.notebook for point in points})
    figure, of_notebooks = _grid(len(notebooks), height=3.1)
    beams = sorted({point.num_beams for point in points})
    speeds = [point.speedup for point in points if point.speedup > 0]
    for axes, notebook in zip(of_notebooks, notebooks, strict=True):
        mine = [point for point in points if point.notebook == notebook]
        unity_line(axes, width=1.2)
        for number, series in enumerate(dict.fromkeys(point.series for point in mine)):
            line = [(float(p.num_beams), p.speedup) for p in mine if p.series == series]
            exact = all(point.exact for point in mine if point.series == series)
            _line(axes, line, series, number, "-" if exact else "--")
        log2_ticks(axes, beams)
        axes.set_xlim(beams[0] / 1.4, beams[-1] * 1.4)
        axes.set_yscale("log", base=2)
        axes.set_ylim(min(1, *speeds) / 1.2, max(1, *speeds) * 1.2)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("num_beams (1: greedy)")
        axes.set_title(notebook, fontsize=10)
        _legend(axes)
    of_notebooks[0].set_ylabel("speed (× the notebook's baseline)")
    figure.suptitle(speed_finding(points).replace("; ", ";\n"))
    return figure


def sweep_lines(sweeps: Sequence[Sweep]) -> Figure:
    """What a metric does while a parameter grows, a panel for each sweep. Raises ValueError when there are none."""
    if not sweeps:
        raise ValueError("no notebook was run with several values of a number: specbeam sweep does that")
    figure, of_sweeps = _grid(len(sweeps), height=3.3)
    for axes, sweep in zip(of_sweeps, sweeps, strict=True):
        for number, (label, line) in enumerate(sweep.lines.items()):
            _line(axes, line, textwrap.shorten(label, 44, placeholder=" …"), number)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel(sweep.parameter)
        axes.set_ylabel(sweep.metric.replace("_", " "))
        axes.set_title(f"{sweep.notebook}:\n{textwrap.fill(sweep.reading, 48)}", fontsize=10, loc="left")
        if any(sweep.lines):
            _legend(axes)
    return figure


def medians(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The median for each place, by place."""
    return [(place, median(value for other, value in line if other == place)) for place in sorted(dict(line))]


def speed_finding(points: Sequence[SpeedPoint]) -> str:
    """How many points of exact methods are above 1, and the median for the fewest and the most beams."""
    exact = [point for point in points if point.exact]
    if not exact:
        return "No measured speed is of an exact method"
    faster = sum(point.speedup > 1 for point in exact)
    whose = "of exact methods " if len(exact) < len(points) else ""
    found = f"{faster} of {len(exact)} measured speeds {whose}are above that of their baseline"
    beams = sorted({point.num_beams for point in exact})
    middle = [median(point.speedup for point in exact if point.num_beams == count) for count in beams]
    if len(beams) == 1:
        return f"{found}; the median with {counted(beams[0], 'beam')} is × {middle[0]:.2f}"
    fewest = counted(beams[0], "beam")
    return f"{found}; the median is × {middle[0]:.2f} with {fewest} and × {middle[-1]:.2f} with {beams[-1]}"


def _grid(count: int, height: float) -> tuple[Figure, list[Any]]:
    """Panels of this height (inches) in rows of at most three."""
    columns = min(count, COLUMNS)
    return panels(count, max(6.0, 3.9 * columns), height * math.ceil(count / columns) + 0.5, columns=columns)


def _line(axes: Any, line: Sequence[tuple[float, float]], label: str, number: int, style: str = "-") -> None:
    mark = {**look(number), "markersize": 4}
    axes.plot(*zip(*line, strict=True), **mark, linestyle="none", alpha=0.6)
    if len(middle := medians(line)) > 1:
        axes.plot(*zip(*middle, strict=True), color=mark["color"], linewidth=1.4, linestyle=style)
    shown = label if number < LABELS else f"_{label}"  # matplotlib leaves labels with an underscore out
    axes.plot([], [], **mark, linestyle=style, label=shown or "_")


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=7)
