"""Watcher: tells a user's function where a decode is after every step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from specbeam.core.source import Source
from specbeam.core.stats import Observer

from .trace import Trace, Tracer


@dataclass(frozen=True)
class Progress:
    """Where a decode stands after a committed step; what a decoder's `watch` is called with."""

    steps: int
    target_passes: int
    seconds: float  # since the decode began, the prompt's pass included
    best: list[list[int]]  # tokens of the best running sequence of each prompt, without the one just decided
    traces: Callable[[], list[Trace]]  # what happened so far; to be called within `watch`, empty unless trace=True


Watch = Callable[[Progress], object]


class Watcher(Observer):
    """Calls `watch` with the `Progress` after every step; its traces are those of `tracer`, if there is one."""

    def __init__(self, watch: Watch, tracer: Tracer | None = None):
        self._watch, self._tracer = watch, tracer

    def started(self, source: Source) -> None:
        self._began, self._best = time.perf_counter(), [0] * len(source.trees)

    def stepped(self, source: Source, running: Mapping[int, list[int]]) -> None:
        for b, nodes in running.items():
            self._best[b] = nodes[0] if nodes else self._best[b]
        self._watch(
            Progress(
                source.stats.steps,
                source.scorer.passes,
                source.stats.prefill_s + time.perf_counter() - self._began,
                [tree.path(node) for tree, node in zip(source.trees, self._best, strict=True)],
                self._tracer.traces if self._tracer else list,
            )
        )
