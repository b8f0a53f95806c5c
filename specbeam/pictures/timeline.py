"""The timeline of rounds: what each target pass cost, how many nodes were in it, and how many steps it paid for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from specbeam.core.stats import Trace, TraceRound

from .drawing import Canvas, Picture, counted, svg_text, text
from .history import checked

_WIDTH, _BAR, _PLOT, _LEFT = 26.0, 18.0, 130.0, 64.0  # px
_STEP, _MOST = 9.0, 8  # px of a square that stands for a step; a pass with more steps shows the number alone


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
    scale = _PLOT / top
    base = _PLOT + 16
    rows = {"nodes": base + 34, "drafted": base + 50, "steps": base + 66}
    height = rows["steps"] + _STEP * min(_MOST, max(one.steps for one in rounds)) + 18
    width = _LEFT + _WIDTH * len(rounds) + 8
    found = []
    for part in range(5):
        y = base - _PLOT * part / 4
        found.append(f'<path class="§rule" d="M{_LEFT:.0f} {y:.1f}H{width:.1f}"/>')
        found.append(svg_text(f"{top * part / 4:g}", _LEFT - 6, y + 3, "§n", "end"))
    found.append(svg_text("ms", _LEFT - 6, 6, "§n", "end"))
    found += [svg_text(name, _LEFT - 6, y, "§f", "end") for name, y in {"pass": base + 16, **rows}.items()]
    for number, one in enumerate(rounds):
        found.append(_column(number, one, _LEFT + _WIDTH * number + 4, base, scale, rows))
    return Canvas(width, height, "".join(found))


def _column(number: int, one: TraceRound, x: float, base: float, scale: float, rows: Mapping[str, float]) -> str:
    draft, target = 1e3 * one.draft_s, 1e3 * one.target_s
    nodes, middle = len({*one.asked, *one.drafted}), x + _BAR / 2
    name = "the prompt's pass" if number == 0 else f"pass {number}"
    hover = (
        f"{name}\ndrafting {draft:.1f} ms, target {target:.1f} ms\n{len(one.asked)} nodes asked for, "
        f"{len(one.drafted)} drafted\n{counted(one.steps, 'step')} paid for"
    )
    cut = (draft + target) * scale > _PLOT + 0.5
    fit = _PLOT / (draft + target) if cut else scale
    high = target * fit
    found = [
        f"<title>{text(hover)}</title>",
        f'<rect class="§target" x="{x:.1f}" y="{base - high:.1f}" width="{_BAR:.0f}" height="{high:.1f}"/>',
    ]
    if draft:
        tall = max(draft * fit, 2.0)
        y = base - high - tall
        found.append(f'<rect class="§draft" x="{x + 1:.1f}" y="{y:.1f}" width="{_BAR - 2:.0f}" height="{tall:.1f}"/>')
    if cut:  # a band across the bar says that it is longer than drawn
        found.append(f'<path class="§cut" d="M{x - 3:.1f} {base - _PLOT + 22:.1f}l24 -8v-6l-24 8z"/>')
        found.append(svg_text(f"{draft + target:.0f}", middle, base - _PLOT - 4, "§n", "middle"))
    numbers = {base + 16: number, rows["nodes"]: nodes, rows["drafted"]: len(one.drafted), rows["steps"]: one.steps}
    found += [svg_text(str(value), middle, y, "§n", "middle") for y, value in numbers.items()]
    for place in range(min(one.steps, _MOST)):
        y = rows["steps"] + 5 + _STEP * place
        found.append(f'<rect class="§steps" x="{middle - 4:.1f}" y="{y:.1f}" width="8" height="{_STEP - 2:.0f}"/>')
    return f'<g data-round="{number}">{"".join(found)}</g>'


def _axis_end(value: float) -> float:
    """The smallest of …, 1, 2, 4, 6, 8, 10, 20, … that is at least `value`."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * each for each in (1, 2, 4, 6, 8, 10) if unit * each >= value)
