"""Charts of drafts: how often they agree with the target, what they cost, and how well that predicts their speed.

Every function takes plain data, returns a Figure and computes the finding that its title states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .drawing import counted, duration
from .palette import BLUE, GREEN, GREY, RED
from .plot_style import legend_below, log2_ticks, look, panels, percent, rows_with, search_name, single_axes, unity_line

Rows = Sequence[dict[str, Any]]

_ROUND = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 36000, 86400)  # seconds for an axis


def agreement_by_depth(rows: Rows, compare: tuple[str, str], positions: int | None = None) -> Figure:
    """Agreement with the target against the depth of guessing, a panel for each k of `top_k`, a line for each draft.

    Each row has `draft`, and `top_1` and `top_4`, shares by depth from 1 on, of so many `positions`; `compare` names
    the two drafts of the title.
    """
    figure, both = panels(2, 9.5, 4.0, sharey=True)
    for axes, name, text in zip(both, ("top_1", "top_4"), ("the likeliest", "among the 4 likeliest"), strict=True):
        for place, row in enumerate(rows):
            depths = range(1, len(row[name]) + 1)
            axes.plot(depths, row[name], label=row["draft"], **look(place))
        axes.set_title(f"the target's token is {text} of the draft", fontsize="medium")
        axes.set_xlabel("depth: the last depth − 1 tokens are guesses")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    percent(both[0])
    both[0].set_ylabel("held-out positions (%)")
    legend_below(figure)
    first, second = (rows_with(rows, "draft", name)[0]["top_1"] for name in compare)
    deepest = len(first)
    figure.suptitle(
        f"'{compare[0]}' says the target's token at {first[0]:.0%} of {positions or 'the'} positions, "
        f"'{compare[1]}' at {second[0]:.0%};\n"
        f"after {counted(deepest - 1, 'guess', 'es')} it is {first[-1]:.0%} and {second[-1]:.0%}"
    )
    return figure


def agreement_over_time(curves: Mapping[str, Sequence[tuple[float, Sequence[float]]]]) -> Figure:
    """Agreement at depth 1 against the time of training, a line for each draft.

    `curves` maps the name of a draft to points (seconds, shares by depth). The title is about the curve that was
    trained longest and the best of the others.
    """
    figure, axes = single_axes(7.5, 4.0)
    for place, (name, points) in enumerate(curves.items()):
        seconds, shares = [each for each, _ in points], [by_depth[0] for _, by_depth in points]
        axes.plot(seconds, shares, markersize=5, label=name, **look(place))
    reached = [seconds for points in curves.values() for seconds, _ in points]
    ticks = [tick for tick in _ROUND if min(reached) / 2 <= tick <= 1.5 * max(reached)]
    if len(ticks) > 7:  # the names of two that lie close would touch
        ticks = [tick for before, tick in zip([0, *ticks], ticks, strict=False) if tick >= 2.5 * before]
    axes.set_xscale("log")
    axes.set_xticks(ticks, list(map(duration, ticks)))
    axes.minorticks_off()
    percent(axes)
    axes.set(xlabel="time of training (logarithmic)", ylabel="agreement at depth 1 (% of held-out positions)")
    axes.legend(frameon=False)
    ends = {name: (points[-1][0], points[-1][1][0]) for name, points in curves.items()}
    longest = max(ends, key=lambda name: ends[name][0])
    seconds, share = ends[longest]
    found = f"'{longest}' agrees at {share:.0%} of the positions after {duration(seconds)} of training"
    others = [name for name in ends if name != longest]
    if others:
        best = max(others, key=lambda name: ends[name][1])
        found += f";\nbest of the others is '{best}' with {ends[best][1]:.0%} after {duration(ends[best][0])}"
    axes.set_title(found, loc="left")
    return figure


def training_curves(training: Mapping[str, Any]) -> Figure:
    """The loss (nats) and the held-out agreement at each depth over the minutes of a training.

    `training` is what `training.json` holds: `losses` are points (seconds, loss at depth 1), `agreements` points
    (seconds, shares by depth).
    """
    figure, (left, right) = panels(2, 9.5, 3.8)
    losses, points = training["losses"], training["agreements"]
    left.plot([seconds / 60 for seconds, _ in losses], [loss for _, loss in losses], color=GREY, linewidth=1)
    left.set_ylabel("training loss at depth 1 (nats)")
    depths = len(points[-1][1])
    for depth in range(depths):
        shares = [by_depth[depth] for _, by_depth in points]
        right.plot([s / 60 for s, _ in points], shares, markersize=5, label=f"depth {depth + 1}", **look(depth))
    percent(right)
    right.set_ylabel("agreement (% of held-out positions)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xlim=0, xlabel="time of training (min)")
    seconds, shares = points[-1]
    found = f"After {duration(seconds)} of training the draft says the target's token at {shares[0]:.0%}"
    found += " of the positions"
    if depths > 1:
        found += f",\nand at {shares[-1]:.0%} after {counted(depths - 1, 'guess', 'es')} of its own"
    figure.suptitle(found)
    return figure


def head_cost(rows: Rows, chosen: int) -> Figure:
    """What a draft's head costs and covers, against the number of tokens that it keeps.

    Each row has `kept_tokens`, `covered` (share of the target's tokens that the head can say) and `seconds`, which
    maps the number of nodes on a level to the measured times of that level. `chosen` is the size of the title.
    """
    rows = sorted(rows, key=lambda row: row["kept_tokens"])
    sizes = [row["kept_tokens"] for row in rows]
    figure, (left, right) = panels(2, 9.5, 3.8)
    for place, width in enumerate(rows[0]["seconds"]):
        times = [[1e3 * each for each in row["seconds"][width]] for row in rows]
        left.plot(sizes, list(map(median, times)), label=f"level of {counted(width, 'node')}", **look(place))
        left.fill_between(sizes, list(map(min, times)), list(map(max, times)), color=look(place)["color"], alpha=0.15)
    right.plot(sizes, [row["covered"] for row in rows], color=GREEN, marker="D")
    for axes in (left, right):
        axes.axvline(chosen, color=GREY, linestyle=":", linewidth=1.2)
        log2_ticks(axes, sizes, ",")
        axes.set_xlabel("tokens that the head keeps")
    left.set_ylim(0, 1.1 * max(median(times) * 1e3 for row in rows for times in row["seconds"].values()))
    left.set_ylabel("time of a draft level (ms): median, range")
    left.legend(frameon=False)
    percent(right)
    right.set(ylim=(0, 1.05), ylabel="target's held-out tokens covered (%)")
    mine, whole = rows_with(rows, "kept_tokens", chosen)[0], rows[-1]
    widest = max(mine["seconds"])
    cost = median(mine["seconds"][widest]) / median(whole["seconds"][widest])
    figure.suptitle(
        f"A head of {chosen:,} of {sizes[-1]:,} tokens covers {mine['covered']:.0%} of what the target says;\n"
        f"a level of {counted(widest, 'node')} takes {cost:.0%} of the time that it takes with all of them"
    )
    return figure


def cost_and_steps(nodes: Sequence[int], seconds: Sequence[float], rows: Rows) -> Figure:
    """What a drafted node costs and what it brings: the time of a pass, and search steps a pass, by drafted nodes.

    `seconds[i]` is the time of a pass over `nodes[i]` nodes. Each row has `num_beams`, `drafted` (nodes a pass, on
    average), `steps_per_pass` and `chosen`: whether the number of nodes was left to the budget.
    """
    figure, (left, right) = panels(2, 9.5, 3.8)
    left.plot(nodes, [1e3 * each for each in seconds], color=BLUE, marker="o")
    left.set(xlabel="nodes in the pass", ylabel="time of a pass (ms)")
    found = []
    for place, number in enumerate(sorted({row["num_beams"] for row in rows})):
        name = search_name(number)
        mine = sorted((r for r in rows if r["num_beams"] == number and not r["chosen"]), key=lambda row: row["drafted"])
        drafted, steps = ([row[key] for row in mine] for key in ("drafted", "steps_per_pass"))
        right.plot(drafted, steps, label=name, **look(place))
        found.append(f"{steps[-1] / steps[0]:.1f} × the steps ({name})")
    right.set(xlabel="drafted nodes a pass, on average", ylabel="search steps a target pass")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set(xlim=0, ylim=0)
    most = max(row["drafted"] for row in rows)
    cost = float(np.interp(1 + most, nodes, seconds)) / seconds[0]
    figure.suptitle(
        f"{most:.0f} drafted nodes bring {' and '.join(found)}\nfor {cost:.1f} × the cost of a pass over one"
    )
    return figure


def predicted_speed(rows: Rows) -> Figure:
    """Speed relative to no draft against the drafted nodes a pass, predicted and measured, a panel for each search.

    Each row has `num_beams`, `drafted` (nodes a pass, on average), `passes_only` and `predicted` (the speed that
    the cost of the target's passes predicts, without and with that of drafting), `measured` (a list) and `chosen`:
    whether the number of nodes was left to the budget.
    """
    beams = sorted({row["num_beams"] for row in rows})
    figure, of_beams = panels(len(beams), max(6.0, 4.75 * len(beams)), 4.2, sharey=True)
    for axes, number in zip(of_beams, beams, strict=True):
        mine = sorted((r for r in rows if r["num_beams"] == number), key=lambda row: row["drafted"])
        fixed, free = ([row for row in mine if row["chosen"] is wanted] for wanted in (False, True))
        nodes = [row["drafted"] for row in fixed]
        unity_line(axes)
        axes.plot(nodes, [r["passes_only"] for r in fixed], color=GREY, linestyle="--", label="predicted, passes only")
        axes.plot(nodes, [r["predicted"] for r in fixed], color=BLUE, label="predicted, passes and drafting")
        for some, marker, size, colour, name in (
            (fixed, "o", 6, RED, "measured"),
            (free, "*", 14, GREEN, "measured, the budget's own choice"),
        ):
            at = [row["drafted"] for row in some]
            low, middle, high = ([pick(row["measured"]) for row in some] for pick in (min, median, max))
            axes.vlines(at, low, high, color=colour)
            axes.plot(at, middle, linestyle="none", marker=marker, markersize=size, color=colour, label=name)
        axes.set_title(search_name(number), fontsize="medium")
        axes.set_xlabel("drafted nodes a pass, on average")
    of_beams[0].set(ylim=0, ylabel="speed (× no draft)")
    legend_below(figure, 2)
    figure.suptitle(_prediction_finding(rows))
    return figure


def _prediction_finding(rows: Rows) -> str:
    judged = [row for row in rows if row["drafted"]]
    if not judged:
        return "Nothing was drafted, so nothing was predicted"
    off = [abs(row["predicted"] / median(row["measured"]) - 1) for row in judged]
    reached = []
    for row in (row for row in judged if row["chosen"]):
        fixed = [r for r in rows if r["num_beams"] == row["num_beams"] and not r["chosen"]]
        best = max((median(r["measured"]) for r in fixed), default=0.0)
        reached += [f"{median(row['measured']) / best:.0%} ({search_name(row['num_beams'])})"] if best else []
    found = f"The predicted speed is {median(off):.0%} off in the median and {max(off):.0%} at worst"
    if reached:
        found += f";\nthe budget's choice ran at {' and '.join(reached)} of the best fixed number's speed"
    return found
