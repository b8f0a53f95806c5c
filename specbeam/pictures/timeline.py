"""The timeline of rounds: what each target pass cost, how many nodes were in it, and how many steps it paid for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from specbeam.decoding.trace import Trace, TraceRound

from .drawing import Canvas, Picture, counted, markup
from .history import checked

_WIDTH, _PLOT, _LEFT, _BASE = 26, 130, 64, 146  # px: of a column and of the plot, and where its bars begin
_ROWS = {"pass": _BASE + 16, "nodes": _BASE + 34, "drafted": _BASE + 50, "steps": _BASE + 66}  # of numbers
_STEP, _MOST = 9, 8  # px of a square that stands for a step; a pass with more steps shows the number alone


def round_timeline(trace: Trace | Mapping[str, Any]) -> Picture:
    """A column for each target pass: above, the time of drafting and of the target (ms); below, its nodes and steps.

    The prompt's pass is cut where it takes far longer than the others. `trace` is what a decoder kept with
    `trace=True`, or the JSON of `Trace.to_json`; texts are not needed. Raises ValueError for an empty or broken trace.
    """
    rounds = checked(trace).rounds
    later = rounds[1:]
    steps = sum(one.steps for one in rounds)
    title = f"{counted(steps, 'step')} in {counted(len(rounds), 'target pass', 'es')}, the prompt's included"
    if later:
        draft, target = sum(one.draft_s for one in later), sum(one.target_s for one in later)
        share = draft / max(draft + target, 1e-12)
        title += f"; after it {1e3 * (draft + target):.0f} ms, of which {share:.0%} drafting"
    return Picture(title, ["draft", "target", "steps"], lambda: _drawn(rounds))


def _drawn(rounds: list[TraceRound]) -> Canvas:
    times = [1e3 * (one.draft_s + one.target_s) for one in rounds]
    top = _axis_end(max(times[1:], default=times[0]) or 1.0)
    width = _LEFT + _WIDTH * len(rounds) + 8
    height = _ROWS["steps"] + _STEP * min(_MOST, max(one.steps for one in rounds)) + 18
    sizes = {"left": _LEFT, "column": _WIDTH, "base": _BASE, "plot": _PLOT, "rows": _ROWS, "step": _STEP, "most": _MOST}
    return Canvas(width, height, markup("timeline.svg.j2", rounds=rounds, top=top, width=width, **sizes))


def _axis_end(value: float) -> float:
    """The smallest of …, 1, 2, 4, 6, 8, 10, 20, … that is at least `value`."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * each for each in (1, 2, 4, 6, 8, 10) if unit * each >= value)
