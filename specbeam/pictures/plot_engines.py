"""The chart of engines: what a pass takes in each, above what the machine must pay for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from .palette import GREY
from .plot_style import log2_ticks, look, single_axes


def engine_passes(nodes: Sequence[int], seconds: Mapping[str, Sequence[float]], least: Sequence[float]) -> Figure:
    """Time of a pass (ms) by the number of nodes in it, a line an engine, and the least that the machine allows.

    Args:
        nodes: sizes of the passes.
        seconds: engine -> one time a size.
        least: what reading the weights, or multiplying with them, takes at each size.

    Raises ValueError for lists of different lengths.
    """
    if {len(each) for each in (*seconds.values(), least)} != {len(nodes)}:
        raise ValueError("every engine and the limit need one time for each number of nodes")
    figure, axes = single_axes(7, 3.8)
    for place, (engine, times) in enumerate(seconds.items()):
        axes.plot(nodes, [1e3 * each for each in times], label=engine, **look(place))
    axes.fill_between(nodes, [1e3 * each for each in least], color=GREY, alpha=0.3, linewidth=0, label="least possible")
    log2_ticks(axes, [*nodes])
    axes.set(ylim=0, xlabel="nodes in the pass", ylabel="time of a pass (ms)")
    axes.legend(frameon=False)
    name, fastest = min(seconds.items(), key=lambda item: sum(item[1]))
    over = [mine / floor for mine, floor in zip(fastest, least, strict=True)]
    axes.set_title(f"{name} takes {min(over):.2f} to {max(over):.2f} × what the machine must pay")
    return figure
