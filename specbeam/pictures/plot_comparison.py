"""Charts of a comparison: quality against speed, and the share of drafted nodes that were used, by depth."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .palette import GREY
from .plot_style import legend_below, look, panels, single_axes

Row = Mapping[str, Any]

_COSTS = (  # figure of a row, what it is
    ("gap", "score below beam search's\n({unit}; lower is better)"),
    ("rougeL", "ROUGE-L\n(higher is better)"),
    ("perplexity", "perplexity under the target\n(lower is better)"),
)


def pareto(rows: Sequence[Row], against: str, title: str, length_penalty: float = 1.0) -> Figure:
    """Speed relative to the method `against`, and its price: score gap, ROUGE-L and perplexity, a panel each.

    Rows are those of one set (`findings.summarise`). Crosses are intervals over prompts. Filled marks are exact, hollow
    ones are not, and a line connects a method's settings (margin, tolerance, top). A panel without figures (ROUGE
    without references) is left out. Raises ValueError when no panel is left.
    """
    points = [row for row in rows if row["speedup"].get(against)]
    shown = [(name, text) for name, text in _COSTS if any(row.get(name) for row in points)]
    if not shown:
        raise ValueError(
            f"none of {len(rows)} rows has a speed against {against!r} and a figure of quality to draw: give the rows "
            f"of a set in which {against!r} takes part"
        )
    unit = {1.0: "nats a token", 0.0: "nats"}.get(length_penalty, f"nats / length^{length_penalty:g}")
    figure, of_costs = panels(len(shown), 3.5 * len(shown) + 0.5, 5.2)
    families = list(dict.fromkeys(family(row["method"])[0] for row in points))
    for axes, (name, text) in zip(of_costs, shown, strict=True):
        for place, kind in enumerate(families):
            mine = [row for row in points if family(row["method"])[0] == kind and row.get(name)]
            _draw(axes, mine, name, against, place)
        axes.axvline(1, color=GREY, linestyle=":", linewidth=1)
        axes.set_xlabel(f"speed (× {against} search)" if against == "beam" else f"speed (× {against})")
        axes.set_ylabel(text.format(unit=unit))
    legend_below(figure, 3)
    figure.suptitle(textwrap.fill(title, 38 * len(shown)))
    return figure


def acceptance(positions: Mapping[str, Mapping[int, tuple[int, int]]], most: int = 8, fewest: int = 5) -> Figure:
    """The share of drafted nodes that the search went on to use, by their depth below the running sequences.

    `positions` holds, for each method, what `metrics.acceptance_by_position` counted; `most` is the deepest position
    shown, and a position with fewer than `fewest` drafted nodes is left out.
    """
    figure, axes = single_axes(8, 3.8)
    for place, (name, counts) in enumerate(positions.items()):
        mine = sorted(
            position for position, (_, drafted) in counts.items() if drafted >= max(fewest, 1) and position <= most
        )
        shares = [counts[position][0] / counts[position][1] for position in mine]
        axes.plot(mine, shares, label=name, **look(place))
    axes.set(xlabel="depth below the running sequences (tokens)", ylabel="drafted nodes that were used (share)")
    axes.set_ylim(0, 1.05)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if positions:
        axes.legend(frameon=False)
    axes.set_title(_acceptance_finding(positions), loc="left")
    return figure


def family(method: str) -> tuple[str, str | None]:
    """A method's name without its setting, and the setting: "speculative, top 2" → "speculative, top", "2"."""
    words = method.split()
    if len(words) > 1 and "," in method:
        return " ".join(words[:-1]), words[-1]
    return method, None


def _draw(axes: Any, rows: Sequence[Row], name: str, against: str, place: int) -> None:
    """One method with all its settings, in the order given."""
    if not rows:
        return
    speeds, costs = [row["speedup"][against] for row in rows], [row[name] for row in rows]
    x, y = [speed["value"] for speed in speeds], [cost["value"] for cost in costs]
    kind, setting = family(rows[0]["method"])
    label = kind if setting is None else f"{kind} …"
    exact, style = rows[0]["label"] == "exact", look(place)
    label += "" if exact else f" ({rows[0]['label']})"
    axes.errorbar(
        x,
        y,
        xerr=_reach(speeds),
        yerr=_reach(costs),
        **style,
        markersize=8,
        markerfacecolor=style["color"] if exact else "white",
        linewidth=1.2 if len(rows) > 1 else 0,
        elinewidth=0.7,
        label=label,
    )
    for row, here, there in zip(rows, x, y, strict=True):
        setting = family(row["method"])[1]
        if setting is not None:
            offset = {"xytext": (6, 5), "textcoords": "offset points"}
            axes.annotate(setting, (here, there), fontsize=9, color=style["color"], **offset)


def _reach(intervals: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """The lengths of error bars below and above. A percentile interval need not contain its value: then it is 0."""
    return [
        [max(one["value"] - one["low"], 0.0) for one in intervals],
        [max(one["high"] - one["value"], 0.0) for one in intervals],
    ]


def _acceptance_finding(positions: Mapping[str, Mapping[int, tuple[int, int]]]) -> str:
    firsts = {name: counts[1] for name, counts in positions.items() if counts.get(1, (0, 0))[1]}
    if not firsts:
        return "Nothing was drafted"
    shares = [f"{used / drafted:.0%} ({name})" for name, (used, drafted) in firsts.items()]
    return f"Of the nodes drafted first in a line the search used {' and '.join(shares)}"
