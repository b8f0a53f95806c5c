"""The loop of the benchmark, and all of it in one call, as `specbeam bench` and `make bench` do."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from specbeam.experiments.records import RunRecord

from .cases import ARTICLE_TOKENS, SIDE_REPEATS, Case, Runner, Runs, make_cases, to_warm_up
from .report import record, rows
from .runners import Contenders, make_runners

QUICK_CASES = ("chat_greedy", "article_beam_4", "code_beam_2")


def measure(
    cases: Sequence[Case], runners: Mapping[str, Runner], repeats: int, done: Callable[[int, Case], None] | None = None
) -> Runs:
    """Run everything `repeats` times, interleaved: repeat by repeat, case by case, prompt by prompt.

    The runners take their turns in their order at every prompt, so that a slow spell of the machine meets all of them.
    """
    runs: Runs = {(case.label, name): [] for case in cases for name in runners if case.takes(name)}
    for repeat in range(repeats):
        for case in cases:
            if repeat >= SIDE_REPEATS and not case.in_full:
                continue
            turns = [name for name in runners if case.takes(name)]
            for name in turns:
                runs[case.label, name].append([])
            for inputs in case.inputs:
                for name in turns:
                    runs[case.label, name][repeat].append(runners[name](inputs, case.num_beams))
            if done is not None:
                done(repeat, case)
    return runs


def benchmark(
    who: Contenders,
    planned: Sequence[Case],
    parameters: Mapping[str, Any],
    *,
    article_tokens: int = ARTICLE_TOKENS,
    done: Callable[[int, Case], None] | None = None,
) -> RunRecord:
    """One short turn to warm up, then all the measurements: their record, not yet saved.

    `parameters` go into the record; "repeats" and "max_new_tokens" among them say how much is measured.
    `done(repeat, case)` is called after each case.
    """
    tokens = parameters["max_new_tokens"]
    cases, prompts = make_cases(who.main, planned, article_tokens)
    began = time.perf_counter()
    measure(to_warm_up(cases), make_runners(who, min(tokens, 8)), 1)
    runs = measure(cases, make_runners(who, tokens), parameters["repeats"], done)
    more = {"default": who.default, "prompt_sources": prompts, "remarks": who.remarks}
    made = record(rows(cases, runs), parameters, who.main, runs, **more)
    made.seconds = time.perf_counter() - began
    return made
