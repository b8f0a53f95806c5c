"""What a terminal shows of a decode."""

from __future__ import annotations

import io
from typing import Any

import torch
from fakes import Oracle, fake_pair, hash_lm
from rich.console import Console

import specbeam as sb
from specbeam.apps.cli.terminal import STYLES, coloured, legend, show
from specbeam.decoding.trace import Trace
from specbeam.pictures import History
from specbeam.pictures.token_text import token_texts

INPUTS = {"input_ids": torch.tensor([[3, 1, 4]])}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Letters:
    """A tokenizer with a letter a token; the first is special."""

    all_special_ids = (0,)

    def decode(self, tokens: Any, skip_special_tokens: bool = False) -> str:
        return "".join(LETTERS[t] for t in tokens if not (skip_special_tokens and t in self.all_special_ids))


def decoded(method: str = "speculative", new: int = 12) -> tuple[Any, Trace]:
    target = hash_lm()
    pair = fake_pair(target, sb.UnionDraft([Oracle(target)]), Letters())
    found = sb.METHODS[method](pair, INPUTS, max_new_tokens=new, trace=True)
    assert found.trace is not None
    return pair, found.trace[0]


def test_every_token_has_the_style_of_its_verdict() -> None:
    pair, trace = decoded()
    texts = token_texts(trace, pair.tokenizer)
    shown = coloured(trace, texts)
    assert shown.plain == pair.tokenizer.decode(trace.results[0])
    history = History(trace, texts)
    states = [history.at().states[node] for node in history.results[0]]
    by_place = {span.start: span.style for span in shown.spans}
    assert [by_place.get(place, "") for place in range(len(states))] == [STYLES[state] for state in states]
    assert len(set(states)) > 1


def test_special_tokens_and_what_a_terminal_would_obey_are_not_printed() -> None:
    trace = decoded()[1]
    texts = {token: "\x1b[2J" if token % 2 else "x" for token in range(24)}
    shown = coloured(trace, texts, skipped=frozenset(trace.results[0][:2])).plain
    assert "\x1b" not in shown
    kept = [token for token in trace.results[0] if token not in trace.results[0][:2]]
    assert shown.count("x") == sum(token % 2 == 0 for token in kept)


def _screen(**options: Any) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=60, **options), out


def test_a_terminal_gets_the_text_a_legend_and_a_summary() -> None:
    pair, _ = decoded("speculative_beam")
    console, out = _screen(color_system="standard")
    options = {"max_new_tokens": 12, "num_return_sequences": 2}
    show(pair, INPUTS, "speculative_beam", options, console)
    shown = out.getvalue()
    assert "\x1b[32m" in shown and "never drafted" in shown and "[2] score" in shown
    assert "target passes" in shown.replace("\n", " ")


def test_no_colour_is_used_where_none_is_wanted() -> None:
    pair, _ = decoded()
    console, out = _screen(no_color=True, color_system="standard")
    show(pair, INPUTS, "speculative", {"max_new_tokens": 12}, console)
    assert "\x1b[32m" not in out.getvalue() and "\x1b[94m" not in out.getvalue()
    assert "corrected by the target" in legend().plain
