"""Charts of wide beam searches: speed and cache against the number of beams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .palette import GREY
from .plot_style import ShownFigure, legend_below, log2_ticks, look, panels, unity_line

Rows = Sequence[dict[str, Any]]


def wide_beams(rows: Rows, speeds: Sequence[str]) -> ShownFigure:
    """Speed against transformers, and slots of the cache, by the number of beams.

    Args:
        rows: one a number of beams, with `num_beams`, under every name of `speeds` the speed (× transformers), and the
            most slots that the cache held at once: `copies_slots` in transformers, `tree_slots` on the tree.
        speeds: the names, ours last.
    """
    rows = sorted(rows, key=lambda row: row["num_beams"])
    beams = [row["num_beams"] for row in rows]
    figure, (speed, cache) = panels(2, 8.5, 3.8)
    unity_line(speed, "transformers", 1.2)
    for place, name in enumerate(speeds):
        speed.plot(beams, [row[name] for row in rows], label=name, **look(place))
    speed.set(ylabel="speed (× transformers)", ylim=(0, 1.1 * max(row[name] for row in rows for name in speeds)))
    cache.plot(beams, [row["copies_slots"] for row in rows], color=GREY, marker="o", label="copies (transformers)")
    cache.plot(beams, [row["tree_slots"] for row in rows], **look(len(speeds)), label="tree")
    cache.set(yscale="log", ylabel="slots of the cache")
    for axes in (speed, cache):
        log2_ticks(axes, beams)
        axes.set(xlabel="num_beams", xlim=(min(beams) / 1.3, max(beams) * 1.3))
    legend_below(figure, 3)
    found = [row[speeds[-1]] for row in rows]
    share = rows[-1]["tree_slots"] / rows[-1]["copies_slots"]
    low, high = (format(value, ".1f") for value in (min(found), max(found)))
    span = low if low == high else f"{low} to {high}"
    figure.suptitle(
        f"{speeds[-1]} runs at {span} × the speed of transformers' beam search;\n"
        f"with {beams[-1]} beams it holds {share:.0%} of the slots"
    )
    return figure
