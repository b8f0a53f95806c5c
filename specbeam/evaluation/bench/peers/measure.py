"""All of it in one call, as `specbeam bench --peers` and `make bench ARGS="--peers"` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from specbeam.experiments.cpu import cpu
from specbeam.experiments.provenance import repository_root
from specbeam.experiments.records import RunRecord
from specbeam.files import exclusive
from specbeam.models.embedded import embedded_folder

from ..cases import ARTICLE_TOKENS, BATCHED, PLAN, Case, choose, make_cases
from ..runners import Contenders
from .contenders import PEERS, ours, started, unused_token
from .environment import LOCK, make_environment
from .report import record, rows
from .turns import take_turns

CASES = tuple(f"{kind}_{search}" for kind in ("chat", "code", "article") for search in ("greedy", "beam_4", "beam_8"))
QUICK_CASES = ("chat_greedy", "article_beam_4")


def plan(names: Sequence[str] = (), most: Mapping[str, int] | None = None) -> list[Case]:
    """The cases with these names, by default chat, code and article with one, four and eight beams, one prompt each.

    Raises ValueError as `choose` does, and for batches.
    """
    for case in PLAN:
        if case.kind == BATCHED and case.label in names:
            raise ValueError(f"{case.label} decodes a batch, and the other libraries decode one prompt at a time.")
    return choose(names or CASES, most or {"chat": 1, "code": 1, "article": 1}, full=True)


def benchmark_peers(
    who: Contenders,
    planned: Sequence[Case],
    parameters: Mapping[str, Any],
    *,
    article_tokens: int = ARTICLE_TOKENS,
    say: Callable[[str], None] = print,
    done: Callable[[int, Case], None] | None = None,
) -> RunRecord:
    """Set up what is missing, load everything, and measure all in turns: the record, not yet saved.

    who: the embedded model, whose checkpoint the others convert.
    parameters: go into the record; "repeats" and "max_new_tokens" among them say how much is measured.

    Raises ValueError if the libraries cannot be set up at all, or if another run is using them.
    """
    root = repository_root()
    build = root / "build" / "peers"
    with exclusive(build / ".lock", "another run measures the other libraries in this folder; wait until it is done."):
        environment = make_environment(build, root / LOCK, say)
        cases, prompts = make_cases(who.main, planned, article_tokens)
        end, threads = unused_token(who.main), torch.get_num_threads()
        with started(PEERS, embedded_folder(), end, environment, build, threads, say) as peers:
            contenders = [*ours(who.main, who.plain, end), *peers]
            began = time.perf_counter()
            turns = take_turns(cases, contenders, parameters["repeats"], parameters["max_new_tokens"], done)
            taken = time.perf_counter() - began
        found = rows(cases, contenders, turns, who.plain.target)
    more = {"prompt_sources": prompts, "cpu": cpu(), "end_token": end, "not_installed": dict(environment.failed)}
    made = record(found, parameters, contenders, who.main, **more)
    made.seconds = taken
    return made
