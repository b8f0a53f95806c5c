"""The progress of several decodes beside each other: how many steps each has taken after as many target passes.

A square is a search step, and squares that touch were paid for by one target pass. Plain traces in, a picture out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from specbeam.decoding.trace import Trace

from .drawing import Canvas, Picture, counted, markup
from .token_text import columns, joined, visible

_WIDTH, _LEFT, _ROW = 760.0, 6.0, 38.0  # px
_SQUARE = 18.0  # px of a square with its gap, at most
_COLUMN, _LONGEST = 5.8, 60  # px of a column of a label, columns of a name


@dataclass(frozen=True)
class TracedDecode:
    """A decode to be compared: its name, its trace, and the texts of its tokens by id (`token_texts`)."""

    name: str
    trace: Trace
    texts: Mapping[int, str]

    def steps(self, passes: int) -> int:
        """Search steps that the first passes paid for."""
        return sum(one.steps for one in self.trace.rounds[:passes])

    def text(self, passes: int) -> str:
        """The text of the best running sequence after so many passes; the result at the end."""
        steps, trace = self.steps(passes), self.trace
        running = trace.steps[steps] if steps < len(trace.steps) else []
        if running:
            tokens = [trace.nodes[node].token for node in trace.path(running[0])]
        else:
            tokens = trace.results[0] if trace.results else []
        return joined([self.texts[token] for token in tokens])


def progress_by_pass(decodes: list[TracedDecode], passes: int) -> Picture:
    """How far each decode is after so many target passes, the prompt's included. The title is about the first one.

    Raises ValueError for no decodes, and for a number of passes below 1.
    """
    if not decodes or passes < 1:
        raise ValueError(f"{len(decodes)} decodes after {passes} passes: give at least one decode and one pass.")
    return Picture(_title(decodes, passes), ["steps"], lambda: _drawn(decodes, passes))


def _title(decodes: list[TracedDecode], passes: int) -> str:
    ends = [len(one.trace.rounds) for one in decodes]
    first = decodes[0]
    if passes >= ends[0]:
        finding = f"{first.name.capitalize()} took {counted(first.steps(passes), 'step')} in {_passes(ends[0])}"
        if len(decodes) == 1:
            return finding
        saved = ends[1] - ends[0]
        kind = "fewer" if saved >= 0 else "more"
        return f"{finding}, {decodes[1].name} needs {ends[1]}: {_passes(abs(saved))} {kind}"
    finding = f"After {_passes(passes)}: {first.name} stands at step {first.steps(passes)}"
    return finding + "".join(f", {one.name} at step {one.steps(passes)}" for one in decodes[1:])


def _drawn(decodes: list[TracedDecode], passes: int) -> Canvas:
    whole = max(one.steps(len(one.trace.rounds)) for one in decodes)
    step = min(_SQUARE, (_WIDTH - 2 * _LEFT) / max(whole, 1))
    labels = [_label(one, passes) for one in decodes]
    width = max(_LEFT * 2 + step * whole, 360.0, *(_LEFT * 2 + _COLUMN * columns(label) for label in labels))
    height = _ROW * len(decodes)
    named = list(zip(decodes, labels, strict=True))
    rows = markup("progress.svg.j2", decodes=named, passes=passes, step=step, left=_LEFT, row=_ROW)
    html = markup("progress.html.j2", decodes=decodes, passes=passes, rows=rows, width=width, height=height)
    return Canvas(width, height, rows, html)


def _label(decode: TracedDecode, passes: int) -> str:
    after = _passes(min(passes, len(decode.trace.rounds)))
    return f"{visible(decode.name, _LONGEST)}: step {decode.steps(passes)} after {after}"


def _passes(number: int) -> str:
    return counted(number, "target pass", "es")
