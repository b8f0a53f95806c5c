"""Decodes that run beside their audience: they can be watched while they go on, and stopped.

The playground, the web page and a terminal show them. The decodes of a prompt have a thread of their own, which now
and then leaves a `LiveState` of where they stand; who looks takes the newest one. Stopping is a stopping criterion
like any other, so what was decoded by then comes back as a regular result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from .decoders import METHODS, Decoded, Pair
from .trace import Trace
from .watch import Progress


@dataclass(frozen=True)
class Snapshot:
    """Where a decode of one prompt stands."""

    text: str  # of the best running sequence, or of the result
    tokens: list[int]
    steps: int
    target_passes: int
    seconds: float  # since the decode began
    trace: Trace | None  # so far; None where none is kept

    def as_result(self) -> Trace:
        """The trace as if the decode had ended here with `tokens`, for the token strip. Raises ValueError without."""
        if self.trace is None:
            raise ValueError("this decode keeps no trace; start it with the option trace=True.")
        return self.trace if self.trace.results else replace(self.trace, results=[self.tokens])


@dataclass(frozen=True)
class LiveState:
    """Where the decodes of a prompt stand. Shots and results are by method, in the order in which they are decoded."""

    shots: Mapping[str, Snapshot] = field(default_factory=dict)
    results: Mapping[str, Decoded] = field(default_factory=dict)
    seconds: float = 0.0  # since the first of them began
    ended: bool = False
    stopped: bool = False  # by request; the last result is cut short then
    ahead: int = 0  # others whose turn comes first
    error: str | None = None  # in words, where whoever gives the turns has caught it


class _Flag(StoppingCriteria):
    """Ends every sequence once `event` is set."""

    def __init__(self, event: threading.Event):
        self.event = event

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self.event.is_set(), dtype=torch.bool, device=input_ids.device)


class LiveDecode:
    """One prompt decoded by one or several of `METHODS`, one after the other, in a thread of its own.

    Iterate over it for states, the last one at its end. What a decode raises, the iteration and `wait` raise.

    Args:
        pair: target, draft and tokenizer (`load_pair`).
        inputs: as `render_prompt` returns them, one prompt.
        methods: keys of `METHODS`, each with the options that it takes, its trace included.
        every: seconds between two snapshots at least.
        turn: entered in the thread before the first decode, and left after the last.
    """

    def __init__(
        self,
        pair: Pair,
        inputs: Mapping[str, Tensor],
        methods: Mapping[str, Mapping[str, Any]],
        every: float = 0.15,
        turn: AbstractContextManager[None] | None = None,
    ):
        if unknown := methods.keys() - METHODS.keys():
            raise ValueError(f"method={min(unknown)!r} is none of {', '.join(METHODS)}.")
        if len(inputs["input_ids"]) != 1:
            raise ValueError(f"one prompt can be watched at a time, got {len(inputs['input_ids'])}.")
        self._pair, self._inputs, self._methods = pair, inputs, methods
        self._every, self._turn = every, turn or nullcontext()
        self._stop, self._news = threading.Event(), threading.Condition()
        self._state, self._fresh = LiveState(), False
        self._error: BaseException | None = None
        threading.Thread(target=self._run, name=f"specbeam {', '.join(methods)}", daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the decode after the step that it is at, and begin no other. What there is by then becomes the result."""
        self._stop.set()

    def wait(self) -> LiveState:
        """The last state, once there is one. Raises what a decode raised."""
        with self._news:
            self._news.wait_for(lambda: self._state.ended)
        if self._error is not None:
            raise self._error
        return self._state

    def tell(self, **changes: Any) -> None:
        """Change the state that the audience sees."""
        with self._news:
            self._state, self._fresh = replace(self._state, **changes), True
            self._news.notify_all()

    def __iter__(self) -> Iterator[LiveState]:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._fresh or self._state.ended)
                now, self._fresh = self._state, False
            if now.ended:
                yield self.wait()
                return
            yield now

    def _run(self) -> None:
        try:
            with self._turn:
                self._began = time.perf_counter()
                for method, options in self._methods.items():
                    if not self.stopped:
                        self._decode(method, **options)
        except BaseException as error:
            self._error = error
        self.tell(ended=True, stopped=self.stopped)

    def _decode(self, method: str, stopping_criteria: Any = (), **options: Any) -> None:
        following = 0.0  # when the next snapshot is due

        def show(shot: Snapshot, **changes: Any) -> None:
            seconds = time.perf_counter() - self._began
            self.tell(shots={**self._state.shots, method: shot}, seconds=seconds, **changes)

        def watch(progress: Progress) -> None:
            nonlocal following
            tokens = progress.best[0]
            if time.perf_counter() < following or not tokens:  # the prompt has been read, and there is no text yet
                return
            trace = next(iter(progress.traces()), None)
            text = self._pair.tokenizer.decode(tokens, skip_special_tokens=True)
            show(Snapshot(text, tokens, progress.steps, progress.target_passes, progress.seconds, trace))
            following = time.perf_counter() + self._every

        criteria = StoppingCriteriaList([*(stopping_criteria or ()), _Flag(self._stop)])
        result = METHODS[method](self._pair, self._inputs, watch=watch, stopping_criteria=criteria, **options)
        stats, trace = result.stats, result.trace[0] if result.trace else None
        counts = (stats.steps, stats.target_passes, stats.prefill_s + stats.decode_s)
        last = Snapshot(result.text[0], result.sequences[0], *counts, trace)
        show(last, results={**self._state.results, method: result}, stopped=self.stopped)
