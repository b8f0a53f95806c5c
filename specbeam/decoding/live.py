"""A decode that runs beside its audience: it can be watched while it goes on, and stopped.

The playground and the web page both show one. The decode has a thread of its own and leaves a `Snapshot` of where it
stands now and then; who looks takes the newest one. Stopping is a stopping criterion like any other, so what was
decoded by then comes back as a regular result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

from specbeam.core.stats import Progress, Trace

from .decoders import METHODS, Decoded, Pair


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


class _Flag(StoppingCriteria):
    """Ends every sequence once `event` is set."""

    def __init__(self, event: threading.Event):
        self.event = event

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        return torch.full((len(input_ids),), self.event.is_set(), dtype=torch.bool, device=input_ids.device)


class LiveDecode:
    """One of `METHODS` on one prompt, in a thread of its own. Iterate over it for snapshots, the last one at its end.

    Args:
        pair: target, draft and tokenizer (`load_pair`).
        inputs: as `render_prompt` returns them, one prompt.
        method: a key of `METHODS`.
        options: what that method takes, its trace included.
        every: seconds between two snapshots at least.

    `result` is the `Decoded` once the iteration has ended. What the decode raises, the iteration raises.
    """

    def __init__(
        self,
        pair: Pair,
        inputs: Mapping[str, Tensor],
        method: str,
        options: Mapping[str, Any] | None = None,
        every: float = 0.15,
    ):
        if method not in METHODS:
            raise ValueError(f"method={method!r} is none of {', '.join(METHODS)}.")
        if len(inputs["input_ids"]) != 1:
            raise ValueError(f"one prompt can be watched at a time, got {len(inputs['input_ids'])}.")
        self.result: Decoded | None = None
        self._pair, self._inputs, self._method = pair, inputs, method
        self._options, self._every = dict(options or {}), every
        self._stop, self._ended, self._news = threading.Event(), False, threading.Condition()
        self._latest: Snapshot | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"specbeam {method}", daemon=True)
        self._next = 0.0
        self._thread.start()

    @property
    def stopped(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the decode after the step that it is at. What there is by then becomes the result."""
        self._stop.set()

    def wait(self) -> Decoded:
        """The result, once there is one. Raises what the decode raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self.result is not None
        return self.result

    def __iter__(self) -> Iterator[Snapshot]:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._latest is not None or self._ended)
                latest, self._latest = self._latest, None
            if latest is not None:
                yield latest
            elif self._ended:
                result = self.wait()
                trace = result.trace[0] if result.trace else None
                found, stats = result.sequences[0], result.stats
                seconds = stats.prefill_s + stats.decode_s
                yield Snapshot(result.text[0], found, stats.steps, stats.target_passes, seconds, trace)
                return

    def _run(self) -> None:
        try:
            given = self._options.pop("stopping_criteria", None) or []
            criteria = StoppingCriteriaList([*given, _Flag(self._stop)])
            self.result = METHODS[self._method](
                self._pair, self._inputs, watch=self._watch, stopping_criteria=criteria, **self._options
            )
        except BaseException as error:
            self._error = error
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _watch(self, progress: Progress) -> None:
        if time.perf_counter() < self._next:
            return
        tokens = progress.best[0]
        if not tokens:  # the prompt has been read, and there is no text yet
            return
        traces = progress.traces()
        text = self._pair.tokenizer.decode(tokens, skip_special_tokens=True)
        shot = Snapshot(
            *(text, tokens, progress.steps, progress.target_passes, progress.seconds), traces[0] if traces else None
        )
        with self._news:
            self._latest = shot
            self._news.notify_all()
        self._next = time.perf_counter() + self._every
