"""The chart of other inference libraries beside ours, from the rows of `specbeam bench --peers`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from .drawing import counted
from .palette import BLUE, COLOURS, GREY, HATCHES
from .plot_style import legend_below, panels, search_name

BASELINE, OURS, NO_DRAFT = "transformers", "specbeam", "specbeam without a draft"
KNOWN = {BASELINE: {"color": GREY}, OURS: {"color": BLUE}, NO_DRAFT: {"color": BLUE, "alpha": 0.4}}
SHORT = 20  # letters of a reason that fits into the place of a bar

Rows = Sequence[dict[str, Any]]


def peers_by_case(rows: Rows) -> Figure:
    """Seconds a prompt, a panel for each number of beams and a bar for each contender in each kind of prompt.

    Each row has `kind`, `num_beams`, `contender`, `prompts`, `seconds` as a spread or None, `speedup` likewise, `equal`
    and `reason`. Bars are medians, lines the range of the repeats. A bar under "≠" is one of other tokens than
    transformers'; where there is no bar stands why. The title counts only who decoded the same tokens.

    Raises ValueError if nobody was timed.
    """
    if not any(row["seconds"] for row in rows):
        raise ValueError("no row has seconds: none of the contenders answered.")
    beams = sorted({row["num_beams"] for row in rows})
    names = list(dict.fromkeys(row["contender"] for row in rows))
    figure, of_beams = panels(len(beams), max(7.0, 4.2 * len(beams)), 4.2)
    width = 0.85 / len(names)
    for axes, num_beams in zip(of_beams, beams, strict=True):
        group = [row for row in rows if row["num_beams"] == num_beams]
        kinds = list(dict.fromkeys(row["kind"] for row in group))
        for number, name in enumerate(names):
            for row in group:
                if row["contender"] == name:
                    place = kinds.index(row["kind"]) + (number - (len(names) - 1) / 2) * width
                    _bar(axes, place, width, row, _look(names, name))
        axes.set_xticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds])
        axes.set_title(search_name(num_beams))
        axes.set(xlabel="prompt", ylim=0)
    of_beams[0].set_ylabel("time (s a prompt)")
    legend_below(figure)
    figure.suptitle(_finding(rows))
    return figure


def _look(names: list[str], name: str) -> dict[str, Any]:
    """transformers grey, specbeam blue, pale without a draft, the others in the remaining colours with a hatch each."""
    if name in KNOWN:
        return {**KNOWN[name], "label": name}
    number = [each for each in names if each not in KNOWN].index(name) + 1
    colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
    return {"color": colour, "hatch": hatch, "alpha": 0.75, "label": name}


def _bar(axes: Any, place: float, width: float, row: dict[str, Any], look: dict[str, Any]) -> None:
    if row["seconds"] is None:
        axes.bar(place, 0, width, **look)  # for the legend
        why = row["reason"] if len(row["reason"] or "") in range(1, SHORT) else "no result"
        axes.annotate(why, (place, 0), (0, 3), textcoords="offset points", ha="center", rotation=90, fontsize=8)
        return
    middle, low, high = (row["seconds"][name] / row["prompts"] for name in ("median", "min", "max"))
    axes.bar(place, middle, width, **look)
    axes.vlines(place, low, high, color="black", linewidth=1)
    if row["equal"] is False:
        axes.annotate("≠", (place, high), (0, 2), textcoords="offset points", ha="center")


def _finding(rows: Rows) -> str:
    """Who was fastest how often, and where specbeam stands against the fastest of the others."""
    cases: dict[tuple[str, int], Rows] = {}
    for row in rows:
        if row["seconds"] and row["equal"]:
            cases[row["kind"], row["num_beams"]] = [*cases.get((row["kind"], row["num_beams"]), ()), row]
    if not cases:
        return "Nobody decoded the tokens of transformers"
    wins = Counter(min(group, key=_seconds)["contender"] for group in cases.values())
    told = ", ".join(f"{name} in {count}" for name, count in wins.most_common())
    found = f"Fastest with transformers' tokens: {told} of {counted(len(cases), 'case')}"
    ratios = []
    for case, group in cases.items():
        mine = [row for row in group if row["contender"] == OURS]
        others = [row for row in group if row["contender"] not in KNOWN]
        if mine and others:
            ratios.append((_seconds(min(others, key=_seconds)) / _seconds(mine[0]), case))
    if ratios:
        (low, worst), (high, best) = min(ratios), max(ratios)
        found += f";\nspecbeam runs at {high:.2f} × the speed of the fastest other library ({_case(*best)})"
        found += f" down to {low:.2f} × ({_case(*worst)})" if worst != best else ""
    return found


def _seconds(row: dict[str, Any]) -> float:
    return row["seconds"]["median"]


def _case(kind: str, num_beams: int) -> str:
    return f"{kind.replace('_', ' ')}, {search_name(num_beams)}"
