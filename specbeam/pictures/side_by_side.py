"""Two decodes of one search beside each other, pass by pass: how far each has come after as many passes.

A square is a search step, and squares that touch were paid for by one target pass. Plain traces in, a picture out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specbeam.core.stats import Trace

from .drawing import Canvas, Picture, counted, text
from .token_text import joined

_WIDTH, _LEFT, _ROW, _TALL, _MOST = 760.0, 6.0, 38.0, 13.0, 18.0  # px; the last is a square with its gap, at most


@dataclass(frozen=True)
class Lane:
    """One of the two: what it is called, its trace, and the texts of its tokens by id (`token_texts`)."""

    name: str
    trace: Trace
    texts: Mapping[int, str]

    def steps(self, passes: int) -> int:
        """Search steps that the first passes paid for."""
        return sum(one.steps for one in self.trace.rounds[:passes])

    def words(self, passes: int) -> str:
        """The best running text after so many passes; at the end the result."""
        steps, trace = self.steps(passes), self.trace
        running = trace.steps[steps] if steps < len(trace.steps) else []
        if running:
            tokens = [trace.nodes[node].token for node in trace.path(running[0])]
        else:
            tokens = trace.results[0] if trace.results else []
        return joined([self.texts[token] for token in tokens])


def moments(trace: Trace) -> list[tuple[int, bool]]:
    """The pass of each picture that `trees.frames` makes of a trace, and whether it is before the target's verdict."""
    found = [(0, False)]
    for number, one in enumerate(trace.rounds[1:], start=1):
        found += [(number, True), (number, False)] if one.drafted else [(number, False)]
    return found


def side_by_side(lanes: list[Lane], passes: int) -> Picture:
    """Where the lanes stand after so many target passes, the prompt's included. The first lane is the one looked at.

    Raises ValueError for no lane, and for a number of passes below 1.
    """
    if not lanes or passes < 1:
        raise ValueError(f"{len(lanes)} lanes after {passes} passes: give one lane or more, and one pass or more.")
    return Picture(_title(lanes, passes), ["steps"], lambda: _drawn(lanes, passes))


def _title(lanes: list[Lane], passes: int) -> str:
    ends = [len(lane.trace.rounds) for lane in lanes]
    first = lanes[0]
    if passes >= ends[0]:
        said = f"{first.name.capitalize()} took {counted(first.steps(passes), 'step')} in {_passes(ends[0])}"
        if len(lanes) == 1:
            return said
        saved = ends[1] - ends[0]
        kind = "fewer" if saved >= 0 else "more"
        return f"{said}, {lanes[1].name} needs {ends[1]}: {_passes(abs(saved))} {kind}"
    said = f"After {_passes(passes)}: {first.name} stands at step {first.steps(passes)}"
    return said + "".join(f", {lane.name} at step {lane.steps(passes)}" for lane in lanes[1:])


def _drawn(lanes: list[Lane], passes: int) -> Canvas:
    whole = max(lane.steps(len(lane.trace.rounds)) for lane in lanes)
    step = min(_MOST, (_WIDTH - 2 * _LEFT) / max(whole, 1))
    rows = "".join(_row(lane, passes, step, _ROW * place) for place, lane in enumerate(lanes))
    width, height = max(_LEFT * 2 + step * whole, 360.0), _ROW * len(lanes)
    words = "".join(
        f'<p dir="auto" style="margin:4px 0 0;white-space:pre-wrap;overflow-wrap:anywhere">'
        f'<span style="color:var(--faint)">{text(lane.name)}:</span> {text(lane.words(passes))}</p>'
        for lane in lanes
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-hidden="true">{rows}</svg>'
    )
    return Canvas(width, height, rows, f'<div style="overflow-x:auto">{svg}</div>{words}')


def _row(lane: Lane, passes: int, step: float, top: float) -> str:
    done, whole = lane.steps(passes), len(lane.trace.rounds)
    label = f"{lane.name}: step {done} after {_passes(min(passes, whole))}"
    found = [f'<text x="{_LEFT:.0f}" y="{top + 12:.1f}" class="§f">{text(label)}</text>']
    at = _LEFT
    for number, one in enumerate(lane.trace.rounds):
        squares = []
        for place in range(one.steps):
            last = place == one.steps - 1
            width = step - (min(6.0, step / 3) if last else min(1.0, step / 12))
            kind = "§steps" if number < passes else "§band"
            edge = "" if number < passes else ' style="stroke:var(--line)"'
            squares.append(
                f'<rect class="{kind}"{edge} x="{at:.2f}" y="{top + 18:.1f}" width="{width:.2f}" height="{_TALL:.0f}"/>'
            )
            at += step
        name = "the prompt's pass" if number == 0 else f"pass {number}"
        hover = text(f"{name}: {counted(one.steps, 'step')}")
        found.append(f"<g><title>{hover}</title>{''.join(squares)}</g>")
    return "".join(found)


def _passes(number: int) -> str:
    return counted(number, "target pass", "es")
