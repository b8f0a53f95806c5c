"""A decode in a terminal: tokens in the colour of their verdict, while the decode runs and at its end.

Where colour is not wanted (NO_COLOR) Rich leaves it out, and corrected tokens stay bold. Output that is no terminal
gets the plain text, from `decode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text
from torch import Tensor

from specbeam.decoding.live import LiveDecode
from specbeam.decoding.trace import Trace
from specbeam.models.load import Pair
from specbeam.pictures.history import History
from specbeam.pictures.palette import ACCEPTED, CORRECTED, STATES, UNDRAFTED
from specbeam.pictures.token_text import completed, lone, token_texts

from .summary import heading, summary

STYLES = {ACCEPTED: "green", CORRECTED: "bold bright_blue", UNDRAFTED: ""}


def coloured(trace: Trace, texts: Mapping[int, str], result: int = 0, skipped: frozenset[int] = frozenset()) -> Text:
    """A returned sequence of a trace, each token in the style of its verdict. Tokens in `skipped` are left out."""
    history = History(trace, texts)
    moment = history.at()
    path = [node for node in history.results[result] if history.nodes[node].token not in skipped]
    line = Text()
    for node, words in zip(path, completed([history.text(n) for n in path]), strict=True):
        # a terminal would obey an escape sequence that a model wrote
        safe = "".join(c if c.isprintable() or c in "\n\t" else "" if lone(c) else "�" for c in words)
        line.append(safe, STYLES.get(moment.states[node], ""))
    return line


def legend() -> Text:
    """The styles and their meaning, on one line."""
    line = Text()
    for state, style in STYLES.items():
        line.append(("" if not line else "  ") + STATES[state].label, style or "default")
    return line


def show(pair: Pair, inputs: Mapping[str, Tensor], method: str, options: Mapping[str, Any], console: Console) -> None:
    """Decode one prompt with its text growing on `console`, and leave the text and a summary there.

    Ctrl-C ends the decode and keeps the text so far. `method` and `options` are as for `LiveDecode`.
    """
    decode = LiveDecode(pair, inputs, {method: {**options, "trace": True}})
    special = frozenset(pair.tokenizer.all_special_ids)

    def text_of(trace: Trace, rank: int = 0) -> Text:
        return stripped(coloured(trace, token_texts(trace, pair.tokenizer), rank, special))

    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="visible") as live:
        end = None
        while end is None:
            try:
                for state in decode:
                    if method in state.shots:
                        # Live cannot redraw what has left the screen, so only the end of the text is shown
                        lines = text_of(state.shots[method].as_result()).wrap(console, console.width)
                        live.update(Text("\n").join(lines[-max(console.height - 2, 1) :]), refresh=True)
                end = decode.wait()
            except KeyboardInterrupt:
                decode.stop()
    if not end.results:  # it came before the decode began
        console.print("stopped")
        return
    decoded = end.results[method]
    assert decoded.trace is not None
    for rank in range(len(decoded.sequences)):
        if len(decoded.sequences) > 1:
            console.print(Text(heading(decoded, rank)))
        console.print(text_of(decoded.trace[0], rank))
        console.print()
    console.print(legend())
    console.print(Text(("stopped; " if end.stopped else "") + summary(pair, method, decoded), "dim"))


def stripped(text: Text) -> Text:
    """The text without space at its ends."""
    text.rstrip()
    return text[len(text.plain) - len(text.plain.lstrip()) :] if text.plain else text
