"""What a source writes down of one decode: its `Stats`, and a trace of every prompt if one is wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .scorer import TreeScorer
from .stats import Progress, Recorder, Stats, Trace, TraceRound
from .tree import ROOT, TokenTree


class Books:
    """The books of one decode. Open them once the prompts have been read."""

    def __init__(self, scorer: TreeScorer, trace: bool):
        self.stats, self._scorer, self._trace = Stats(), scorer, trace

    def open(self, trees: list[TokenTree], prefill_s: float) -> None:
        """The prompts have been read in `prefill_s`."""
        self._trees = trees
        self._best = [ROOT] * len(trees)
        self._since_pass = 0
        self.stats.prefill_s = self.stats.target_s = prefill_s
        self._recorders = [Recorder([TraceRound([ROOT], [], 0, 0.0, prefill_s)]) for _ in trees]
        self._began = time.perf_counter()

    def stood(self, running: Sequence[Sequence[int]]) -> None:
        """The search stands at these nodes of every prompt; of a finished prompt nowhere."""
        if self._trace:
            for recorder, nodes in zip(self._recorders, running, strict=True):
                recorder.steps.append(list(nodes))
        self._best = [nodes[0] if nodes else best for nodes, best in zip(running, self._best, strict=True)]

    def stood_alone(self, b: int, node: int) -> None:
        """Prompt `b` alone took a step, to `node`."""
        if self._trace:
            self._recorders[b].steps.append([node])
        self._best[b] = node

    def step(self, watch: Callable[[Progress], object] | None) -> None:
        """A step is committed."""
        self.stats.steps += 1
        self._since_pass += 1
        if watch is not None:
            tokens = [tree.path(node) for tree, node in zip(self._trees, self._best, strict=True)]
            seconds = self.stats.prefill_s + time.perf_counter() - self._began
            watch(Progress(self.stats.steps, self._scorer.passes, seconds, tokens, self.traces))

    def passed(self, missing: list[list[int]], drafted: list[list[int]], draft_s: float, target_s: float) -> None:
        """A pass verified the `drafted` nodes of every prompt along with the `missing` ones."""
        self.stats.draft_s += draft_s
        self.stats.target_s += target_s
        self.stats.drafted += sum(map(len, drafted))
        if self._trace:
            for recorder, asked, more in zip(self._recorders, missing, drafted, strict=True):
                if asked or more:
                    recorder.rounds.append(TraceRound(asked, more, self.stats.steps, draft_s, target_s))

    def close_pass(self) -> None:
        """What the last pass paid for is used up: note how many steps that were."""
        if self._since_pass:
            self.stats.accepted[self._since_pass] += 1
            for recorder in self._recorders:
                if recorder.rounds and not recorder.rounds[-1].steps:
                    recorder.rounds[-1].steps = self._since_pass
            self._since_pass = 0

    def close(self) -> Stats:
        """The decode is over."""
        self.close_pass()
        self.stats.decode_s = time.perf_counter() - self._began
        self.stats.target_passes = self._scorer.passes
        self.stats.target_tokens = self._scorer.tokens
        self.stats.peak_kv_tokens = self._scorer.peak_slots
        return self.stats

    def traces(self) -> list[Trace]:
        """What happened so far, a trace a prompt, in plain data; none where none is wanted."""
        if not self._trace:
            return []
        return [
            recorder.trace(tree, self._since_pass) for tree, recorder in zip(self._trees, self._recorders, strict=True)
        ]
