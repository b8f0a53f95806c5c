"""The token strip: a text token by token, each marked as drafted, corrected or never drafted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from specbeam.core.stats import Trace

from .drawing import COLUMN, SIGN, TEXT, Canvas, Picture, attribute, strikable, text, token
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


def _drawn(history: History, moment: Moment, path: list[int]) -> Canvas:
    shown = completed([history.text(n) for n in path])
    html, svg, x, y = [], [], 0.0, 0.0
    for node, words, following in zip(path, shown, [*shown[1:], ""], strict=True):
        state = moment.states[node]
        cells = [(visible(words, _LONGEST), state, history.describe(node, state, moment.verified))]
        wrong = history.drafted_instead(node) if state == CORRECTED else []
        if wrong:
            others = "".join("\n✗ " + visible(history.text(n), 20) for n in wrong[1:8])
            hover = history.describe(wrong[0], REJECTED, moment.verified) + others
            cells.insert(0, (visible(history.text(wrong[0]), _LONGEST), REJECTED, hover))
        margin = " §w" if following.startswith(" ") else ""
        html.append(f'<span class="§g{margin}">{"".join(_span(*cell) for cell in cells)}</span>')
        widths = [_width(words, state) for words, state, _ in cells]
        x += 5 * (words.startswith(" ") and x > 0)
        if x > 0 and x + sum(widths) + 2 > _SVG_WIDTH:
            x, y = 0.0, y + _LINE
        for cell, width in zip(cells, widths, strict=True):
            svg.append(_cell(*cell, x, y, width))
            x += width + 2
        if "\n" in words:
            html.append('<i class="§br"></i>')
            x, y = 0.0, y + _LINE
    return Canvas(_SVG_WIDTH, y + _LINE, "".join(svg), f'<div class="§t" dir="ltr">{"".join(html)}</div>')


def _span(words: str, state: str, title: str) -> str:
    sign = f"<b>{STATES[state].sign}</b>" if STATES[state].sign else ""
    body = f"<bdi>{text(words)}</bdi>"
    body = f"<s>{body}</s>" if state == REJECTED and strikable(words) else body
    return f'<span class="§{state}" title={attribute(title)}>{sign}{body}</span>'


def _width(words: str, state: str) -> float:
    return 10 + COLUMN * columns(words) + (SIGN if STATES[state].sign else 0)


def _cell(words: str, state: str, title: str, x: float, y: float, width: float) -> str:
    return (
        f'<g><title>{text(title)}</title><rect class="§{state}" x="{x + 0.75:.1f}" y="{y + 2:.1f}" '
        f'width="{width - 1.5:.1f}" height="22" rx="4"/>{token(words, state, x + 5, y + 13 + TEXT / 3)}</g>'
    )
