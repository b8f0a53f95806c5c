"""Charts of decodes, from counts, lists and dicts: the cost of a pass, steps a pass, methods, budgets, masks.

Every function returns a matplotlib Figure, which shows itself as the last expression of a cell, and computes the
finding that its title states. Shapes, hatches and labels repeat what the colours say.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import counted
from .palette import BLUE, COLOURS, HATCHES
from .plot_style import log2_ticks, look, panels, single_axes, unity_line


def pass_cost(nodes: list[int], seconds: list[list[float]]) -> Figure:
    """Median and range of the time of a target pass (ms) against the number of nodes in it.

    `seconds[i]` are the measurements for `nodes[i]`. Raises ValueError for lists of different lengths.
    """
    if len(nodes) != len(seconds):
        raise ValueError(f"nodes and seconds must have the same length, and have {len(nodes)} and {len(seconds)}")
    figure, axes = single_axes(7, 3.8)
    middle, low, high = ([1e3 * pick(times) for times in seconds] for pick in (median, min, max))
    axes.fill_between(nodes, low, high, color=BLUE, alpha=0.2, linewidth=0, label="all measurements")
    axes.plot(nodes, middle, color=BLUE, marker="o", label="median")
    log2_ticks(axes, nodes)
    axes.set(ylim=0, xlabel="nodes in the pass", ylabel="time of a pass (ms)")
    axes.legend(frameon=False)
    (fewest, least), (most, largest) = (pick(zip(nodes, middle, strict=True)) for pick in (min, max))
    axes.set_title(
        f"A pass over {most} nodes takes {largest / least:.1f} × the time of a pass over {counted(fewest, 'node')}"
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
    axes.set(xlabel="search steps committed by a pass", ylabel="target passes")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    passes, steps = sum(counts), sum(size * count for size, count in accepted.items())
    found = "There were no passes"
    if passes:
        found = f"{steps / passes:.2f} steps a pass; {accepted.get(1, 0)} of {passes} passes paid for one step only"
    axes.set_title(found if title is None else title)
    return figure


def four_methods(rows: list[dict[str, Any]], compare: tuple[str, ...] = ("beam", "speculative_beam")) -> Figure:
    """Time of each method (s): a bar to the median, a line over all measurements, passes and steps beside it.

    Each row has `method`, `seconds` (list), `passes` and `steps` (or None where they were not counted). The title
    compares the speed of the last method of `compare` with that of each before it, or the fastest with the slowest.
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
    axes.set(xlim=(0, 1.6 * reach), xlabel="time for the same prompts (s): median, and the range of all measurements")
    middles = {row["method"]: median(row["seconds"]) for row in rows}
    if not {*compare} <= middles.keys():
        compare = tuple(pick(middles, key=middles.__getitem__) for pick in (max, min))
    *bases, ours = compare
    found = [f"at {middles[base] / middles[ours]:.2f} × the speed of {base}" for base in bases]
    axes.set_title(f"{ours} runs " + " and\n".join(found), loc="left")
    return figure


def budget_sweep(rows: list[dict[str, Any]], text: str) -> Figure:
    """Steps a pass, and speed relative to transformers, against the node budget, a line for each number of beams.

    `text` names the prompt. Each row has `num_beams`, `num_assistant_tokens`, `steps_per_pass` and `speedup`.
    """
    figure, (left, right) = panels(2, 9.5, 3.8)
    for place, beams in enumerate(sorted({row["num_beams"] for row in rows})):
        mine = sorted((r for r in rows if r["num_beams"] == beams), key=lambda r: r["num_assistant_tokens"])
        budgets = [row["num_assistant_tokens"] for row in mine]
        style = {**look(place), "label": counted(beams, "beam")}
        style |= {"markersize": max(5, 10 - 2 * place), "linewidth": max(1.0, 3 - place)}  # equal lines stay visible
        left.plot(budgets, [row["steps_per_pass"] for row in mine], **style)
        right.plot(budgets, [row["speedup"] for row in mine], **style)
    for axes, unit in ((left, "search steps a target pass"), (right, "speed (× transformers, same model)")):
        axes.set(xlabel="num_assistant_tokens (nodes a pass)", ylabel=unit)
        axes.set_xticks(sorted({row["num_assistant_tokens"] for row in rows}))
        unity_line(axes)
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
    for i, row in enumerate(seen):
        for j, on in enumerate([True, *row]):
            axes.scatter(j, i, marker="s", s=150, color=BLUE if on else "#E8E8E8")
            if on:
                axes.text(j, i, "×", color="white", ha="center", va="center", fontweight="bold")
    axes.set_xticks(range(size + 1), [prompt, *labels], rotation=45, ha="left")
    axes.xaxis.tick_top()
    axes.set_yticks(range(size), labels)
    axes.set(ylim=(size - 0.5, -0.5), xlim=(-0.6, size + 0.6))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="sees", ylabel="node")
    used = sum(map(sum, seen))
    axes.set_title(f"{counted(size, 'node')} in one pass: {used} of {size * size} pairs are open")
    return figure
