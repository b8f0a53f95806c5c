"""The round timeline: what each target pass cost, how many nodes were in it, and how many steps it paid for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbeam.core.stats import Trace, TraceRound

from .drawing import Canvas, Picture, counted, text

_WIDTH, _BAR, _PLOT, _LEFT = 26.0, 18.0, 130.0, 64.0  # px
_STEP, _MOST = 9.0, 8  # px of a square that stands for a step; squares before there is only their number


def round_timeline(trace: Trace | Mapping[str, Any]) -> Picture:
    """A column for each target pass: above, the time of drafting and of the target (ms); below, its nodes and steps.

    The prompt's pass stands for itself, cut where it is longer than the others by far. `trace` is what a decoder kept
    with `trace=True`, or the JSON of `Trace.to_json`; texts are not needed. Raises ValueError for an empty trace.
    """
    if isinstance(trace, Mapping):
        trace = Trace.from_json(trace)
    rounds = trace.rounds
    if not rounds:
        raise ValueError("this trace is empty: no pass of the target is in it. Decode with trace=True.")
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
    tallest = max(times[1:], default=times[0]) or 1.0
    top = _nice(tallest)
    scale = _PLOT / top
    base = _PLOT + 16
    rows = {"nodes": base + 34, "drafted": base + 50, "steps": base + 66}
    height = rows["steps"] + _STEP * min(_MOST, max(one.steps for one in rounds)) + 18
    width = _LEFT + _WIDTH * len(rounds) + 8
    found = []
    for part in range(5):
        y = base - _PLOT * part / 4
        found.append(f'<path class="§rule" d="M{_LEFT:.0f} {y:.1f}H{width:.1f}"/>')
        found.append(_note(f"{top * part / 4:g}", _LEFT - 6, y + 3, "end"))
    found.append(_note("ms", _LEFT - 6, 6, "end"))
    found += [_label(name, y) for name, y in {"pass": base + 16, **rows}.items()]
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
    found = [f"<title>{text(hover)}</title>"]
    high = target * fit
    found.append(f'<rect class="§target" x="{x:.1f}" y="{base - high:.1f}" width="{_BAR:.0f}" height="{high:.1f}"/>')
    if draft:
        tall = max(draft * fit, 2.0)
        y = base - high - tall
        found.append(f'<rect class="§draft" x="{x + 1:.1f}" y="{y:.1f}" width="{_BAR - 2:.0f}" height="{tall:.1f}"/>')
    if cut:  # two strokes across the bar say that it is longer than drawn
        found.append(f'<path class="§cut" d="M{x - 3:.1f} {base - _PLOT + 22:.1f}l24 -8v-6l-24 8z"/>')
        found.append(_note(f"{draft + target:.0f}", middle, base - _PLOT - 4, "middle"))
    found.append(_note("0" if number == 0 else str(number), middle, base + 16, "middle"))
    found.append(_note(str(nodes), middle, rows["nodes"], "middle"))
    found.append(_note(str(len(one.drafted)), middle, rows["drafted"], "middle"))
    found.append(_note(str(one.steps), middle, rows["steps"], "middle"))
    for place in range(min(one.steps, _MOST)):
        y = rows["steps"] + 5 + _STEP * place
        found.append(f'<rect class="§steps" x="{middle - 4:.1f}" y="{y:.1f}" width="8" height="{_STEP - 2:.0f}"/>')
    return f'<g data-round="{number}">{"".join(found)}</g>'


def _label(name: str, y: float) -> str:
    return f'<text x="{_LEFT - 6:.0f}" y="{y:.1f}" text-anchor="end" class="§f">{text(name)}</text>'


def _note(words: str, x: float, y: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="§n">{text(words)}</text>'


def _nice(value: float) -> float:
    """The next of 1, 2, 4, 8, 10, 20, … that is not below a value."""
    unit = 1.0
    while unit > value:
        unit /= 10
    while unit * 10 < value:
        unit *= 10
    return next(unit * each for each in (1, 2, 4, 6, 8, 10) if unit * each >= value)
