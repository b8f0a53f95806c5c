"""The token strip: a text token by token, each marked as drafted, corrected or never drafted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from specbeam.decoding.trace import Trace

from .drawing import COLUMN, SIGN, Canvas, Picture, markup
from .history import History, Moment
from .palette import ACCEPTED, CORRECTED, REJECTED, STATES, UNDRAFTED
from .token_text import columns, completed, visible

_SVG_WIDTH, _LINE, _LONGEST = 760.0, 30.0, 60  # px, px, columns of a token


def token_strip(
    trace: Trace | Mapping[str, Any],
    texts: Mapping[int, str] | None = None,
    *,
    result: int = 0,
    round: int | None = None,
) -> Picture:
    """A returned sequence with each token marked: ✓ drafted and accepted, → corrected, or never drafted.

    ✗ and the token that the draft had in its place precede a corrected one. Hovering shows log-probabilities (nats).

    Args:
        trace: what a decoder kept with `trace=True`, or the JSON of `Trace.to_json`.
        texts: the texts of its tokens by id (`token_texts`), if they are not in the JSON.
        result: which of the returned sequences, best first.
        round: shows the text as it was after this round; None shows all of it.

    Raises ValueError for an empty trace, one without texts or results, and a round or result that it does not have.
    """
    history = History(trace, texts)
    moment = history.at(round)
    if not 0 <= result < len(history.results):
        raise ValueError(
            f"result {result} is out of range: this trace has {len(history.results)} returned sequences, from 0 on."
        )
    path = [n for n in history.results[result] if n in moment.branches]
    states = [moment.states[n] for n in path]
    counts = {name: states.count(name) for name in (ACCEPTED, CORRECTED, UNDRAFTED)}
    title = (
        f"{counts[ACCEPTED]} of {len(path)} tokens were drafted and accepted, {counts[CORRECTED]} corrected, "
        f"{counts[UNDRAFTED]} never drafted"
    )
    return Picture(title, [ACCEPTED, REJECTED, CORRECTED, UNDRAFTED], lambda: _drawn(history, moment, path))


@dataclass
class _Cell:
    """A token with what hovering over it shows, and its place in the SVG (px)."""

    words: str
    state: str
    hover: str
    x: float = 0.0
    y: float = 0.0

    @property
    def width(self) -> float:
        return 10 + COLUMN * columns(self.words) + (SIGN if STATES[self.state].sign else 0)


def _drawn(history: History, moment: Moment, path: list[int]) -> Canvas:
    shown = completed([history.text(n) for n in path])
    groups, x, y = [], 0.0, 0.0
    for node, words, following in zip(path, shown, [*shown[1:], ""], strict=True):
        state = moment.states[node]
        cells = [_Cell(visible(words, _LONGEST), state, history.describe(node, state, moment.verified))]
        wrong = history.drafted_instead(node) if state == CORRECTED else []
        if wrong:
            others = "".join("\n✗ " + visible(history.text(n), 20) for n in wrong[1:8])
            hover = history.describe(wrong[0], REJECTED, moment.verified) + others
            cells.insert(0, _Cell(visible(history.text(wrong[0]), _LONGEST), REJECTED, hover))
        x += 5 * (words.startswith(" ") and x > 0)
        if x > 0 and x + sum(cell.width for cell in cells) + 2 > _SVG_WIDTH:
            x, y = 0.0, y + _LINE
        for cell in cells:
            cell.x, cell.y = x, y
            x += cell.width + 2
        groups.append({"cells": cells, "spaced": following.startswith(" "), "ends_line": "\n" in words})
        if "\n" in words:
            x, y = 0.0, y + _LINE
    svg, html = (markup(f"strip.{kind}.j2", groups=groups) for kind in ("svg", "html"))
    return Canvas(_SVG_WIDTH, y + _LINE, svg, html)
