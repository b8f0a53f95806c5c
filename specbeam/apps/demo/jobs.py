"""Visitors of the web page share one pair: they wait in line, first come first served, and can stop at any time.

A job has a thread of its own, so it gives up its place in line whatever happens to the page that submitted it. Knows
no Gradio.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from specbeam.decoding.live import LiveDecode
from specbeam.models.load import Pair
from specbeam.models.prompts import render_prompt

from .settings import Limits, Settings, settings

RACE = ("greedy", "speculative", "beam", "speculative_beam")  # each plain search before the one that has to equal it


class Job(LiveDecode):
    """What a visitor `asked` for, as decodes that begin when it is their turn in the queue."""

    def __init__(self, queue: JobQueue, asked: Settings, inputs: Any, race: bool, trace: bool):
        self.asked, self._queue = asked, queue
        methods = {name: asked.options(name) | {"trace": trace} for name in (RACE if race else (asked.method,))}
        super().__init__(queue.pair, inputs, methods, queue.every, queue.turn(self))

    def stop(self) -> None:
        """End it: at once while it waits, after the current step while it decodes."""
        super().stop()
        self._queue.wake()


class JobQueue:
    """Checks what visitors ask for, and lets a `Job` for each decode in the order in which they came.

    Args:
        pair: target, draft and tokenizer, shared by all.
        limits: what a visitor may ask for.
        every: least number of seconds between two snapshots of a running decode.
    """

    def __init__(self, pair: Pair, limits: Limits | None = None, every: float = 0.15):
        self.pair, self.limits, self.every = pair, limits or Limits(), every
        self._line: list[Job] = []  # unfinished jobs; the first one decodes
        self._moved = threading.Condition()

    def submit(self, given: Mapping[str, Any], race: bool = False, trace: bool = True) -> Job:
        """A job for the settings in `given` (checked by `settings`): the method there, or all four in a race.

        Raises ValueError, in words for the visitor, for what is not served, and while too many wait.
        """
        asked = settings(given, self.limits)
        inputs = render_prompt(self.pair.tokenizer, asked.prompt, system=asked.system or None)
        if (tokens := inputs["input_ids"].shape[1]) > self.limits.prompt_tokens:
            raise ValueError(
                f"The prompt has {tokens} tokens, and this page takes {self.limits.prompt_tokens}. Shorten it."
            )
        inputs = inputs.to(self.pair.target.device)
        with self._moved:  # which the job's thread needs for its turn
            if (waiting := len(self._line)) >= self.limits.waiting:
                raise ValueError(f"{waiting} others are waiting for this model. Try again in a minute.")
            self._line.append(job := Job(self, asked, inputs, race, trace))
            job.tell(ahead=waiting)
        return job

    @contextmanager
    def turn(self, job: Job) -> Iterator[None]:
        """Wait until nobody is ahead of `job` or it is stopped, and leave the line at the end. Errors end in words."""
        try:
            with self._moved:
                self._moved.wait_for(lambda: self._line[0] is job or job.stopped)
            yield
        except ValueError as error:
            job.tell(error=str(error))
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            job.tell(error="The decode failed on the server. Whoever runs it finds the reason in its log.")
        finally:
            job.tell(ahead=0)
            with self._moved:
                self._line.remove(job)
                for ahead, other in enumerate(self._line):
                    other.tell(ahead=ahead)
                self._moved.notify_all()

    def wake(self) -> None:
        """Let waiting jobs check whether they were stopped."""
        with self._moved:
            self._moved.notify_all()
