"""Trace: what happened to a prompt round by round, as plain data. The `Tracer` is the observer that collects it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from specbeam.core.stats import Observer

if TYPE_CHECKING:  # pictures are drawn from traces without PyTorch
    from specbeam.core.source import Source


@dataclass
class TraceNode:
    """A node of the token tree as plain data. Node 0 is the prompt."""

    token: int
    parent: int
    depth: int
    score: float  # sum of log-probabilities from the root: the target's if its parent is scored, else guessed
    verified: int | None = None  # the round in which the target scored it
    drafted: int | None = None  # the round in which a draft proposed it for verification
    asked: int | None = None  # the step at which the search stood on it; None: verified in vain, or never verified


@dataclass
class TraceRound:
    """One target pass: the nodes the search lacked, those the draft added, and the steps it paid for."""

    asked: list[int]
    drafted: list[int]
    first_step: int
    draft_s: float
    target_s: float
    steps: int = 0


@dataclass
class Trace:
    """What happened to one prompt. `steps[i]` are the nodes that the search stood on at step i, best first."""

    nodes: list[TraceNode]
    rounds: list[TraceRound]
    steps: list[list[int]]
    results: list[list[int]] = field(default_factory=list)  # the returned sequences, as tokens

    def path(self, node: int) -> list[int]:
        """The nodes from the root (exclusive) to `node` (inclusive)."""
        nodes = []
        while node > 0:
            nodes.append(node)
            node = self.nodes[node].parent
        return nodes[::-1]

    def to_json(self, texts: Mapping[int, str] | None = None) -> dict[str, Any]:
        """The trace as JSON holds it, nodes as columns; with the texts of its tokens (`token_texts`) it can be drawn.

        Bytes that are no text of their own (surrogates, as Python's `surrogateescape` makes them) become lists.
        """
        columns = {one.name: [getattr(node, one.name) for node in self.nodes] for one in fields(TraceNode)}
        document: dict[str, Any] = {"nodes": columns, "rounds": [asdict(one) for one in self.rounds]}
        document |= {"steps": self.steps, "results": self.results}
        if texts is not None:
            document["texts"] = {str(token): _held(text) for token, text in sorted(texts.items())}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Trace:
        """The trace that `to_json` wrote, without the texts (`texts_of`). Raises ValueError for what is none."""
        try:
            columns = [document["nodes"][one.name] for one in fields(TraceNode)]
            nodes = [TraceNode(*values) for values in zip(*columns, strict=True)]
            rounds = [TraceRound(**one) for one in document["rounds"]]
            trace = cls(nodes, rounds, [list(one) for one in document["steps"]], [list(r) for r in document["results"]])
            trace.check()
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"this is not a saved trace ({type(error).__name__}: {error}); save one with Trace.to_json()."
            ) from error
        return trace

    def check(self) -> None:
        """Raises ValueError where the parts do not fit together: a parent after its child, a node that is not there."""
        for number, node in enumerate(self.nodes):
            if number and not 0 <= node.parent < number:
                raise ValueError(f"node {number} has the parent {node.parent}, which does not come before it")
            if number and node.depth != self.nodes[node.parent].depth + 1:
                raise ValueError(f"node {number} has the depth {node.depth}, which is not one below its parent's")
        named = {n for one in self.steps for n in one} | {n for r in self.rounds for n in (*r.asked, *r.drafted)}
        if strange := [n for n in named if not 0 <= n < len(self.nodes)]:
            raise ValueError(f"there are {len(self.nodes)} nodes, and none has the number {strange[0]}")


class Tracer(Observer):
    """Collects the `Trace` of every prompt; the nodes are read off the trees when the traces are asked for."""

    def started(self, source: Source) -> None:
        self._source, self._last_pass = source, 0  # the step that the last pass came before
        self._rounds = [[TraceRound([0], [], 0, 0.0, source.stats.prefill_s)] for _ in source.trees]
        self._steps: list[list[list[int]]] = [[] for _ in source.trees]

    def passed(
        self, source: Source, missing: list[list[int]], drafted: list[list[int]], draft_s: float, target_s: float
    ) -> None:
        for rounds, asked, more in zip(self._rounds, missing, drafted, strict=True):
            rounds[-1].steps = rounds[-1].steps or source.stats.steps - self._last_pass
            if asked or more:
                rounds.append(TraceRound(asked, more, source.stats.steps, draft_s, target_s))
        self._last_pass = source.stats.steps

    def stepped(self, source: Source, running: Mapping[int, list[int]]) -> None:
        for b, nodes in running.items():
            self._steps[b].append(list(nodes))

    def traces(self) -> list[Trace]:
        """What happened so far, a trace a prompt, in plain data."""
        return [self._trace(b) for b in range(len(self._rounds))]

    def _trace(self, b: int) -> Trace:
        tree, rounds, steps = self._source.trees[b], [replace(one) for one in self._rounds[b]], self._steps[b]
        nodes = list(map(TraceNode, tree.tokens, tree.parents, tree.depths, tree.scores))
        for number, one in enumerate(rounds):
            for node in (*one.asked, *one.drafted):
                nodes[node].verified = number
            for node in one.drafted:
                nodes[node].drafted = number
        for step, running in enumerate(steps):
            for node in running:
                nodes[node].asked = step
        rounds[-1].steps = rounds[-1].steps or self._source.stats.steps - self._last_pass
        return Trace(nodes, rounds, list(steps))


def _held(text: str) -> str | list[int]:
    """A text as any JSON reader takes it: one that is not UTF-8 as a list of its bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        bytes_only = all("\udc80" <= c <= "\udcff" for c in text if "\ud800" <= c <= "\udfff")
        return list(text.encode("utf-8", "surrogateescape" if bytes_only else "surrogatepass"))
    return text
