"""Visitors of the web page share one pair: they wait in line, first come first served, and can stop at any time.

A job has a thread of its own, so it gives up its place in line whatever happens to the page that submitted it. Knows
no Gradio.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from specbeam.decoding.decoders import Decoded
from specbeam.decoding.live import LiveDecode, Snapshot
from specbeam.models.load import Pair
from specbeam.models.prompts import render_prompt

from .settings import Limits, Settings, settings

RACE = ("greedy", "speculative", "beam", "speculative_beam")  # each plain search before the one that has to equal it


class Line:
    """Who waits for the model, first come first served."""

    def __init__(self, most: int):
        self.most = most
        self._waiting: list[Job] = []
        self._moved = threading.Condition()

    def enter(self, who: Job) -> None:
        """Take a place at the end. Raises ValueError if the line is full."""
        with self._moved:
            if len(self._waiting) >= self.most:
                raise ValueError(f"{len(self._waiting)} others are waiting for this model. Try again in a minute.")
            self._waiting.append(who)

    def ahead(self, who: Job) -> int:
        """How many jobs come before `who`, including the one that is decoding."""
        with self._moved:
            return self._waiting.index(who)

    @contextmanager
    def turn(self, who: Job) -> Iterator[None]:
        """Wait until nobody is ahead of `who`, or until it is stopped; leave the line at the end."""
        try:
            with self._moved:
                self._moved.wait_for(lambda: self._waiting[0] is who or who.stopped)
            yield
        finally:
            with self._moved:
                self._waiting.remove(who)
                self._moved.notify_all()

    def wake(self) -> None:
        """Let waiting jobs check whether they were stopped."""
        with self._moved:
            self._moved.notify_all()


@dataclass(frozen=True)
class JobState:
    """Progress of a job: waiting, decoding, or ended. Shots and results are by method, in the order of the race."""

    ahead: int = 0  # visitors before this one; 0 from its turn on
    shots: Mapping[str, Snapshot] = field(default_factory=dict)
    results: Mapping[str, Decoded] = field(default_factory=dict)
    seconds: float = 0.0  # since its turn began
    ended: bool = False
    stopped: bool = False
    error: str | None = None  # in words for the visitor


class Job:
    """One or several methods on one prompt, one after the other. Iterate for its states; the last one is its end."""

    def __init__(
        self, queue: JobQueue, asked: Settings, methods: Sequence[str], inputs: Mapping[str, Tensor], trace: bool
    ):
        self.asked, self.methods = asked, list(methods)
        self._queue, self._inputs, self._trace = queue, inputs, trace
        self._stop, self._live = threading.Event(), None
        self._changed, self._state, self._fresh = threading.Condition(), JobState(), True
        queue.line.enter(self)
        threading.Thread(target=self._run, name="specbeam visitor", daemon=True).start()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End it: at once while it waits, after the current step while it decodes."""
        self._stop.set()
        self._queue.line.wake()
        live = self._live
        if live is not None:
            live.stop()

    def wait(self) -> JobState:
        """The last state, once the job has ended."""
        *_, last = self
        return last

    def __iter__(self) -> Iterator[JobState]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._fresh or self._state.ended, timeout=0.5)
                now, self._fresh = self._state, False
            if not now.ended and not now.shots:
                now = replace(now, ahead=self._ahead())
            yield now
            if now.ended:
                return

    def _ahead(self) -> int:
        try:
            return self._queue.line.ahead(self)
        except ValueError:  # it has left the line in the meantime
            return 0

    def _run(self) -> None:
        try:
            with self._queue.line.turn(self):
                start = time.perf_counter()
                for method in self.methods:
                    if self._stop.is_set():
                        break
                    self._decode(method, start)
        except ValueError as error:
            self._tell(error=str(error))
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            self._tell(error="The decode failed on the server. Whoever runs it finds the reason in its log.")
        self._tell(ended=True, stopped=self._stop.is_set())

    def _decode(self, method: str, start: float) -> None:
        options = {**self.asked.options(method), "trace": self._trace}
        self._live = live = LiveDecode(self._queue.pair, self._inputs, method, options, every=self._queue.every)
        if self._stop.is_set():  # stopped after the check in `_run` and before the decode began
            live.stop()
        for shot in live:
            self._tell(shots={**self._state.shots, method: shot}, seconds=time.perf_counter() - start)
        self._tell(results={**self._state.results, method: live.wait()})

    def _tell(self, **changes: Any) -> None:
        with self._changed:
            self._state, self._fresh = replace(self._state, **changes), True
            self._changed.notify_all()


class JobQueue:
    """Checks what visitors ask for and queues a `Job` for it.

    Args:
        pair: target, draft and tokenizer, shared by all.
        limits: what a visitor may ask for.
        every: least number of seconds between two snapshots of a running decode.
    """

    def __init__(self, pair: Pair, limits: Limits | None = None, every: float = 0.15):
        self.pair, self.limits, self.every = pair, limits or Limits(), every
        self.line = Line(self.limits.waiting)

    def submit(self, given: Mapping[str, Any], race: bool = False, trace: bool = True) -> Job:
        """A job for the settings in `given` (checked by `settings`): the method there, or all four in a race.

        Raises ValueError, in words for the visitor, for what is not served.
        """
        asked = settings(given, self.limits)
        inputs = render_prompt(self.pair.tokenizer, asked.prompt, system=asked.system or None)
        if (tokens := inputs["input_ids"].shape[1]) > self.limits.prompt_tokens:
            raise ValueError(
                f"The prompt has {tokens} tokens, and this page takes {self.limits.prompt_tokens}. Shorten it."
            )
        methods = RACE if race else (asked.method,)
        return Job(self, asked, methods, inputs.to(self.pair.target.device), trace)
