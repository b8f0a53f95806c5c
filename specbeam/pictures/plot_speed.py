"""Charts of a benchmark's rows (`bench_report.rows`, or the rows of its record): speed, time and steps a pass.

Every function takes rows as plain data, returns a Figure and computes the finding that its title states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from .palette import BLUE, GREEN, GREY, HATCHES, ORANGE
from .plot_style import legend_below, log2_ticks, look, panels, rows_with, search_name, single_axes, unity_line

PLAIN, PACKED = "transformers", "transformers packed"
PARTS = (
    ("target_s", "target's passes", BLUE),
    ("draft_s", "draft", ORANGE),
    ("search_s", "everything else", GREEN),
)

Rows = Sequence[dict[str, Any]]


def speed_by_beams(rows: Rows, default: str = "all") -> Figure:
    """Speed (× transformers as it comes) against the number of beams, a panel for each kind of prompt.

    Each row has `kind`, `num_beams`, `source`, and `speedup` and `speedup_same_target` as spreads. Lines are medians;
    that of `default` also shows the range of all repeats. The grey line is transformers on the packed target: a source
    above it is faster on equal weights.
    """
    mine = rows_with(rows, "source", default)
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, of_kinds = panels(len(kinds), max(7.5, 3.4 * len(kinds)), 4.0, sharey=True)
    styles = _styles(rows, default)
    for axes, kind in zip(of_kinds, kinds, strict=True):
        unity_line(axes, "transformers as it comes", 1.2)
        for source, style in styles.items():
            points = sorted(
                (row["num_beams"], *(row["speedup"][name] for name in ("median", "min", "max")))
                for row in rows
                if (row["kind"], row["source"]) == (kind, source)
            )
            if points:
                beams, middle, low, high = zip(*points, strict=True)
                axes.plot(beams, middle, label=source, **style)
                if source == default:
                    axes.vlines(beams, low, high, color=style["color"], linewidth=5, alpha=0.25)
        present = sorted({row["num_beams"] for row in rows if row["kind"] == kind})
        log2_ticks(axes, present)
        axes.set(xlim=(min(present) / 1.3, max(present) * 1.3), xlabel="num_beams (1: greedy)")
        axes.set_title(kind.replace("_", " "))
    of_kinds[0].set_ylim(0, 1.05 * max(row["speedup"]["max"] for row in rows))
    of_kinds[0].set_ylabel("speed (× transformers as it comes)")
    legend_below(figure)
    found = f"'{default}' runs at {_range(mine, 'speedup')} × the speed of transformers as it comes"
    if PACKED in styles:
        found += f",\nand at {_range(mine, 'speedup_same_target')} × its speed on the same packed weights"
    figure.suptitle(found)
    return figure


def time_split(rows: Rows, default: str = "all") -> Figure:
    """Where the time goes, a stacked bar for each row, in parts of transformers' time on the same target.

    Each row has `case`, `source`, `seconds` as a spread, and `target_s`, `draft_s` and `search_s`, or None for these
    where they could not be timed.
    """
    mine = rows_with(rows, "source", default)
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, axes = single_axes(9.5, 1.4 + 0.26 * (len(rows) + len(cases)))
    place, ticks = 0.0, []
    for case in cases:
        group = [row for row in rows if row["case"] == case]
        unit = next((row for name in (PACKED, PLAIN) for row in group if row["source"] == name), group[0])
        for row in group:
            _bar(axes, place, row, unit["seconds"]["median"])
            ticks.append((place, f"{_case(row)}: {row['source']}" if row is group[0] else row["source"]))
            place += 1
        place += 0.7
    axes.set_yticks(*zip(*ticks, strict=True))
    axes.set_ylim(place - 0.9, -0.7)
    axes.axvline(1, color=GREY, linestyle=":", linewidth=1)
    axes.set_xlabel("time (transformers on the same target: 1)")
    legend_below(figure)
    axes.set_title(_split_finding(mine, default), loc="left")
    return figure


def steps_per_pass(rows: Rows, default: str = "all") -> Figure:
    """Search steps a target pass, a mark for each source in each case; transformers' searches make one.

    Each row has `kind`, `num_beams`, `case`, `source` and `steps_per_pass`.
    """
    mine = rows_with(rows, "source", default)
    styles = {name: style for name, style in _styles(rows, default).items() if name != PACKED}
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, axes = single_axes(max(7.0, 0.95 * len(cases)), 3.8)
    unity_line(axes, "one step a pass", 1.2)
    for offset, (source, style) in enumerate(reversed(styles.items())):
        points = [(cases.index(row["case"]), row["steps_per_pass"]) for row in rows if row["source"] == source]
        where = [place - 0.13 * offset for place, _ in points]
        axes.plot(where, [steps for _, steps in points], label=source, **{**style, "linestyle": "none"})
    labels = {row["case"]: _case(row).replace(", ", "\n") for row in rows}
    axes.set_xlim(-0.9, len(cases) - 0.5)
    axes.set_xticks(range(len(cases)), [labels[case] for case in cases])
    axes.set(ylim=0, ylabel="search steps a target pass")
    legend_below(figure, 5)
    best, worst = (pick(mine, key=lambda row: row["steps_per_pass"]) for pick in (max, min))
    found = f"'{default}' commits {best['steps_per_pass']:.2f} steps a pass ({_case(best)})"
    if best is not worst:
        found += f" down to {worst['steps_per_pass']:.2f} ({_case(worst)})"
    axes.set_title(found, loc="left")
    return figure


def _styles(rows: Rows, default: str) -> dict[str, dict[str, Any]]:
    """A line's look by source, `default` last and so on top; transformers as it comes has none."""
    sources = dict.fromkeys(row["source"] for row in rows)
    styles = {PACKED: {"color": GREY, "marker": "_", "linewidth": 2}} if PACKED in sources else {}
    others = [name for name in sources if name not in (PLAIN, PACKED, default)]
    for place, name in enumerate(others, start=1):
        styles[name] = {**look(place), "linewidth": 1, "markersize": 5}
    return styles | {default: {**look(0), "linewidth": 2.5, "markersize": 7}}


def _bar(axes: Any, place: float, row: dict[str, Any], unit: float) -> None:
    left = 0.0
    if row["target_s"] is None:
        left = row["seconds"]["median"] / unit
        axes.barh(place, left, color=GREY, alpha=0.6, height=0.85, label="not timed in parts")
    else:
        for number, (name, label, colour) in enumerate(PARTS):
            width = max(row[name], 0) / unit
            axes.barh(place, width, left=left, color=colour, hatch=HATCHES[number], height=0.85, label=label)
            left += width
    axes.text(left, place, f" {left:.2f}", va="center", fontsize=8)


def _split_finding(mine: Rows, default: str) -> str:
    timed = [row for row in mine if row["target_s"] is not None]
    if not timed:
        return f"Nobody timed the parts of '{default}'"
    whole = sum(row["seconds"]["median"] for row in timed)
    target, draft = (sum(row[name] for row in timed) / whole for name in ("target_s", "draft_s"))
    most = max(timed, key=lambda row: 1 - row["target_s"] / row["seconds"]["median"])
    outside = 1 - most["target_s"] / most["seconds"]["median"]
    return (
        f"'{default}' spends {target:.0%} of its time in the target's passes and {draft:.0%} drafting;\n"
        f"outside the passes at most {outside:.0%} ({_case(most)})"
    )


def _range(rows: Rows, name: str) -> str:
    values = [row[name]["median"] for row in rows]
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low}–{high}"


def _case(row: dict[str, Any]) -> str:
    return f"{row['kind']}, {search_name(row['num_beams'])}"
