"""Charts of decodes, from plain records: counts, lists, dicts. `trees`, `token_strip`, `timeline` draw traces.

Every function returns a matplotlib Figure (it shows itself as the last expression of a cell) and computes the finding
that its title states. Colours are Okabe and Ito's, which colour-blind people can tell apart; shapes, hatches or
labels say the same again. Nothing here knows a model, and the core does not import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .plot_drafts import (
    agreement_by_depth,
    agreement_over_time,
    cost_and_steps,
    head_cost,
    predicted_speed,
    training_curves,
)
from .plot_speed import speed_by_beams, steps_per_pass, time_split
from .plot_style import BLUE, COLOURS, GREY, HATCHES, MARKERS, ShownFigure, counted, single_axes

__all__ = [
    "accepted_histogram",
    "agreement_by_depth",
    "agreement_over_time",
    "budget_sweep",
    "cost_and_steps",
    "four_methods",
    "head_cost",
    "pass_cost",
    "predicted_speed",
    "speed_by_beams",
    "steps_per_pass",
    "time_split",
    "training_curves",
    "tree_mask",
]


def pass_cost(nodes: list[int], seconds: list[list[float]]) -> Figure:
    """Median and range of the time of a target pass (ms) against the number of nodes in it.

    `seconds[i]` are the measurements for `nodes[i]`.
    """
    _same_length(nodes=nodes, seconds=seconds)
    figure, axes = single_axes(7, 3.8)
    middle = [1e3 * median(times) for times in seconds]
    low, high = ([1e3 * pick(times) for times in seconds] for pick in (min, max))
    axes.fill_between(nodes, low, high, color=BLUE, alpha=0.2, linewidth=0, label="all measurements")
    axes.plot(nodes, middle, color=BLUE, marker="o", label="median")
    axes.set_xscale("log", base=2)
    axes.set_xticks(nodes, [str(n) for n in nodes])
    axes.minorticks_off()
    axes.set_ylim(0)
    axes.set_xlabel("nodes in the pass")
    axes.set_ylabel("time of a pass (ms)")
    axes.legend(frameon=False)
    wide = max(range(len(nodes)), key=nodes.__getitem__)
    narrow = min(range(len(nodes)), key=nodes.__getitem__)
    axes.set_title(
        f"A pass over {nodes[wide]} nodes takes {middle[wide] / middle[narrow]:.1f} × the time of "
        f"a pass over {counted(nodes[narrow], 'node')}"
    )
    return figure


def accepted_histogram(accepted: Mapping[int, int], title: str | None = None) -> Figure:
    """How many target passes committed 1, 2, 3, … search steps (`Stats.accepted`)."""
    figure, axes = single_axes(6, 3.2)
    sizes = list(range(1, max(accepted, default=1) + 1))
    counts = [accepted.get(size, 0) for size in sizes]
    bars = axes.bar(sizes, counts, color=BLUE, width=0.7)
    axes.bar_label(bars, labels=[str(count) if count else "" for count in counts], padding=2)
    axes.margins(y=0.15)
    axes.set_xlabel("search steps committed by a pass")
    axes.set_ylabel("target passes")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    passes, steps = sum(counts), sum(size * count for size, count in accepted.items())
    found = "There were no passes"
    if passes:
        found = f"{steps / passes:.2f} steps a pass; {accepted.get(1, 0)} of {passes} passes paid for one step only"
    axes.set_title(found if title is None else title)
    return figure


def four_methods(rows: list[dict[str, Any]], compare: tuple[str, str] = ("beam", "speculative_beam")) -> Figure:
    """Time of each method (s): a bar to the median, a line over all measurements, passes and steps beside it.

    Each row has `method`, `seconds` (list), `passes` and `steps` (or None where nobody counted them). The title
    compares the speed of the second method of `compare` with the first's, or of the fastest with the slowest.
    """
    figure, axes = single_axes(8, 0.9 + 0.55 * len(rows))
    reach = max(max(row["seconds"]) for row in rows)
    for place, row in enumerate(rows):
        times, middle = row["seconds"], median(row["seconds"])
        colour, hatch = COLOURS[place % len(COLOURS)], HATCHES[place % len(HATCHES)]
        axes.barh(place, middle, color=colour, alpha=0.75, hatch=hatch, edgecolor="white", height=0.65)
        axes.plot([min(times), max(times)], [place, place], color="black", marker="|", markersize=8)
        passes = f"{row['passes']} passes, {row['steps']} steps" if row.get("passes") is not None else ""
        axes.text(max(times) + 0.02 * reach, place, f"{middle:.2f} s   {passes}", va="center")
    axes.set_yticks(range(len(rows)), [row["method"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6 * reach)
    axes.set_xlabel("time for the same prompts (s): median, and the range of all measurements")
    axes.set_title(_speed_finding(rows, compare), loc="left")
    return figure


def _speed_finding(rows: list[dict[str, Any]], compare: tuple[str, str]) -> str:
    times = {row["method"]: median(row["seconds"]) for row in rows}
    base, ours = compare
    if not {base, ours} <= times.keys():
        base, ours = max(times, key=times.__getitem__), min(times, key=times.__getitem__)
    return f"{ours} runs at {times[base] / times[ours]:.2f} × the speed of {base}"


def budget_sweep(rows: list[dict[str, Any]], text: str) -> Figure:
    """Steps a pass, and speed relative to transformers, against the node budget, a line for each number of beams.

    `text` names what was decoded. Each row has `num_beams`, `num_assistant_tokens`, `steps_per_pass` and `speedup`.
    """
    figure = ShownFigure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, beams in enumerate(sorted({row["num_beams"] for row in rows})):
        mine = sorted((r for r in rows if r["num_beams"] == beams), key=lambda r: r["num_assistant_tokens"])
        budgets = [row["num_assistant_tokens"] for row in mine]
        style = {"color": COLOURS[place % 7], "marker": MARKERS[place % 7], "label": counted(beams, "beam")}
        style |= {"markersize": max(5, 10 - 2 * place), "linewidth": max(1.0, 3 - place)}  # equal lines stay visible
        left.plot(budgets, [row["steps_per_pass"] for row in mine], **style)
        right.plot(budgets, [row["speedup"] for row in mine], **style)
    for axes, unit in ((left, "search steps a target pass"), (right, "speed (× transformers, same model)")):
        axes.set_xlabel("num_assistant_tokens (nodes a pass)")
        axes.set_ylabel(unit)
        axes.set_xticks(sorted({row["num_assistant_tokens"] for row in rows}))
        axes.axhline(1, color=GREY, linestyle=":", linewidth=1)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False)
    best = max(rows, key=lambda row: row["speedup"])
    figure.suptitle(
        f"{text}\nat best {best['speedup']:.2f} × transformers ({counted(best['num_beams'], 'beam')}, "
        f"{best['num_assistant_tokens']} drafted nodes, {best['steps_per_pass']:.2f} steps a pass)"
    )
    return figure


def tree_mask(labels: list[str], seen: list[list[bool]], prompt: str = "prompt") -> Figure:
    """A tree attention mask: row i shows which nodes `labels[i]` sees; the prompt is one wide first column."""
    size = len(labels)
    figure, axes = single_axes(1.8 + 0.55 * (size + 1), 0.9 + 0.42 * size)
    cells = [[True, *row] for row in seen]
    for i, row in enumerate(cells):
        for j, on in enumerate(row):
            axes.scatter(j, i, marker="s", s=150, color=BLUE if on else "#E8E8E8")
            if on:
                axes.text(j, i, "×", color="white", ha="center", va="center", fontweight="bold")
    axes.set_xticks(range(size + 1), [prompt, *labels], rotation=45, ha="left")
    axes.xaxis.tick_top()
    axes.set_yticks(range(size), labels)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_xlim(-0.6, size + 0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("sees")
    axes.set_ylabel("node")
    used = sum(map(sum, seen))
    axes.set_title(f"{counted(size, 'node')} in one pass: {used} of {size * size} pairs are open")
    return figure


def _same_length(**lists: Sequence[Any]) -> None:
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"these must have the same length: {lengths}")
