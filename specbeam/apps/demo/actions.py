"""What the web page does for its visitors: a run, a race, a step back, a stop, as updates for named parts of the page.

A run and a race are iterators of updates: {"status": markup, "tree": markup, "busy": whether a job is running, …}.
Knows no Gradio: `page` passes the updates on to its components.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from specbeam.decoding.live import LiveState, Snapshot
from specbeam.experiments.record_models import describe_decode
from specbeam.experiments.records import plain
from specbeam.pictures import Picture, beam_tree, frames, round_timeline, token_strip, token_texts

from . import markup
from .jobs import Job, JobQueue
from .markup import PIECES

Update = dict[str, Any]
Parts = Callable[[LiveState, str], Update]
CLEARED = {  # parts of each tab when a job begins
    "run": {**dict.fromkeys(("answer", "links", "strip", "tree", "timeline"), ""), "frames": 0},
    "race": {"cards": "", "race_links": ""},
}
KEPT = 50  # visitors whose last run can still be stepped through
PICTURES_S = 0.5  # least number of seconds between two pictures of a running decode
DRAWING_SHARE = 5  # at most one part in five of the time is spent drawing, because the decode waits for it


@dataclass
class Visitor:
    """What the server keeps for a visitor: unfinished jobs, and the pictures of the last run."""

    jobs: list[Job] = field(default_factory=list)
    frames: list[Picture] = field(default_factory=list)


class Actions:
    """The actions of one page. `name` is a visitor's secret name; `about` goes into every record."""

    def __init__(self, queue: JobQueue, about: Mapping[str, Any] | None = None):
        self.queue, self.about = queue, dict(about or {})
        self._visitors: OrderedDict[str, Visitor] = OrderedDict()
        self._guard = threading.Lock()

    def run(self, name: str, given: Mapping[str, Any]) -> Iterator[Update]:
        """One method on one prompt: updates while it decodes, all pictures and links at its end."""
        ready, last = 0.0, None

        def parts(now: LiveState, method: str) -> Update:
            nonlocal ready, last
            update: Update = {"status": PIECES.status(now, method)}
            shot = now.shots.get(method)
            if shot is None or (shot is last and not now.ended):
                return update
            begin = time.perf_counter()
            update["answer"] = PIECES.answer(shot.text)
            if now.ended or (last is not None and begin >= ready):  # the first text does not wait for pictures
                update |= self._pictures(name, shot, now.ended)
                ready = begin + max(PICTURES_S, DRAWING_SHARE * (time.perf_counter() - begin))
            last = shot
            return update

        return self._follow(name, given, False, parts)

    def race(self, name: str, given: Mapping[str, Any]) -> Iterator[Update]:
        """All four methods on one prompt, one after the other."""

        def parts(now: LiveState, method: str) -> Update:
            return {"race_status": PIECES.race_status(now), "cards": markup.race(now)}

        return self._follow(name, given, True, parts)

    def step(self, name: str, number: int) -> str:
        """The picture of that number of the visitor's last run."""
        pictures = self.pictures(name)
        if not 0 <= number < len(pictures):
            return PIECES.refusal("The pictures of this run are no longer kept. Run it again to step through it.")
        return pictures[number].html()

    def pictures(self, name: str) -> list[Picture]:
        """What `step` has for a visitor."""
        with self._guard:
            return self._visitors[name].frames if name in self._visitors else []

    def stop(self, name: str) -> None:
        """Stop the visitor's jobs."""
        with self._guard:
            jobs = list(self._visitors[name].jobs) if name in self._visitors else []
        for job in jobs:
            job.stop()

    def leave(self, name: str) -> None:
        """The visitor has gone: end its jobs and forget it."""
        self.stop(name)
        with self._guard:
            self._visitors.pop(name, None)

    def decode(self, name: str, given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """The text of a decode, and what it took. Raises ValueError, in words for the visitor, if there is none."""
        with self._job(name, given, trace=False) as (job, refused):
            if job is None:
                raise ValueError(refused)
            now = job.wait()
        if now.error or job.asked.method not in now.results:
            raise ValueError(now.error or "The decode was stopped before its first token.")
        decoded = now.results[job.asked.method]
        found = describe_decode(job.asked.method, decoded)
        about = {"tokens": found["sequences"][0], "score": found["scores"][0], "stopped": now.stopped}
        about |= {"exact": decoded.exact, "query": job.asked.query()}
        return decoded.text[0], plain({**found["stats"], **about}, "record", nan_as_null=True)

    @contextmanager
    def _job(
        self, name: str, given: Mapping[str, Any], race: bool = False, trace: bool = True
    ) -> Iterator[tuple[Job | None, str]]:
        """A job, or the reason why there is none. It is stopped when nobody iterates over it any more."""
        try:
            job = self.queue.submit(given, race, trace)
        except ValueError as error:
            yield None, str(error)
            return
        with self._guard:
            visitor = self._visitors.setdefault(name, Visitor())
            self._visitors.move_to_end(name)
            visitor.jobs.append(job)
        try:
            yield job, ""
        finally:
            job.stop()
            with self._guard:
                visitor.jobs.remove(job)
                for old in [each for each, one in self._visitors.items() if not one.jobs][:-KEPT]:
                    del self._visitors[old]

    def _follow(self, name: str, given: Mapping[str, Any], race: bool, parts: Parts) -> Iterator[Update]:
        """The updates of a job on its tab: `parts` of its states and chosen method, and links at its end."""
        show, prefix = ("race", "race_") if race else ("run", "")
        with self._job(name, given, race) as (job, refused):
            if job is None:
                yield {f"{prefix}status": PIECES.refusal(refused), "show": show, "busy": False}
                return
            yield {**CLEARED[show], "busy": True, "show": show}
            for now in job:
                update = parts(now, job.asked.method)
                if now.ended:
                    update["busy"] = False
                if now.ended and now.results:
                    document = markup.record(self.queue.pair, job.asked, now.results, self.about)
                    update[f"{prefix}links"] = markup.links(job.asked, document)
                yield update

    def _pictures(self, name: str, shot: Snapshot, ended: bool) -> Update:
        trace = shot.as_result()
        texts = token_texts(trace, self.queue.pair.tokenizer)
        update: Update = {"strip": token_strip(trace, texts).html()}
        if not ended:
            return {**update, "tree": beam_tree(trace, texts).html()}
        pictures = frames(trace, texts)
        with self._guard:
            if name in self._visitors:
                self._visitors[name].frames = pictures
        update |= {"timeline": round_timeline(trace).html()}
        return {**update, "tree": pictures[-1].html(), "frames": len(pictures)}
