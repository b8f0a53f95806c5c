"""The history of a trace: which nodes were drafted, accepted or rejected, and which branches ran on, round by round.

Plain data in, plain data out. A `History` is a trace whose results are complete paths: the last token of a result is
often no node of the trace, because the search never continues from it. `History.at` gives a `Moment` of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from specbeam.decoding.trace import Trace, TraceNode

from .palette import ACCEPTED, CORRECTED, OPEN, REJECTED, STATES, UNDRAFTED
from .token_text import texts_of, visible

RUNNING, DIED, FINISHED = "running", "died", "finished"
PROMPT = "prompt"


@dataclass(frozen=True)
class Moment:
    """A trace after round `round`: before the target has verified its drafts (`before`) or afterwards."""

    round: int
    before: bool
    states: dict[int, str]  # PROMPT or a state of `palette.STATES`, for the nodes that exist by then
    branches: dict[int, str]  # RUNNING, DIED or FINISHED, for the nodes that the search has taken
    steps: int  # committed by then

    @property
    def verified(self) -> int:
        """The last round whose drafts the target has verified."""
        return self.round - self.before


def checked(trace: Trace | Mapping[str, Any]) -> Trace:
    """A trace, or what `Trace.to_json` made of one. Raises ValueError for an empty or broken one."""
    if isinstance(trace, Mapping):
        trace = Trace.from_json(trace)
    if not trace.rounds:
        raise ValueError("this trace is empty: no pass of the target is in it. Decode with trace=True.")
    trace.check()
    return trace


class History:
    """A trace, or its JSON, made ready for drawing.

    Args:
        trace: what a decoder kept with `trace=True`, or what `Trace.to_json` made of it.
        texts: the text of each token by id (`token_texts`); None takes those that were saved with the trace.

    Raises ValueError for an empty or broken trace, and for one without the texts of its tokens.
    """

    def __init__(self, trace: Trace | Mapping[str, Any], texts: Mapping[int, str] | None = None):
        if texts is None and isinstance(trace, Mapping):
            texts = texts_of(trace)
        trace = checked(trace)
        if texts is None:
            raise ValueError(
                "a picture needs the texts of the tokens: give texts=token_texts(trace, tokenizer), or save the trace "
                "with trace.to_json(texts)."
            )
        self.trace, self.texts = trace, texts
        self.steps = list(trace.steps)
        while self.steps and not self.steps[-1]:  # other prompts of the batch went on
            self.steps.pop()
        self.nodes = [replace(node) for node in trace.nodes]
        self.children: list[dict[int, int]] = [{} for _ in self.nodes]
        for number, node in enumerate(self.nodes[1:], start=1):
            self.children[node.parent].setdefault(node.token, number)
        self._in_trace = len(self.nodes)  # the nodes after these are ends of results
        self.results = [self._path_of(result) for result in trace.results]
        lacking = sorted({node.token for node in self.nodes[1:]} - texts.keys())
        if lacking:
            raise ValueError(
                f"there are no texts for {len(lacking)} tokens (the first is {lacking[0]}): make them from this very "
                "trace with token_texts(trace, tokenizer)."
            )

    def _path_of(self, tokens: list[int]) -> list[int]:
        """The nodes of a result from the root (exclusive); its last token becomes a node if it is none."""
        path, here = [], 0
        for place, token in enumerate(tokens):
            child = self.children[here].get(token)
            if child is None:
                if place < len(tokens) - 1:  # the tree was not kept this far
                    break
                child = len(self.nodes)
                self.nodes.append(TraceNode(token, here, place + 1, self.nodes[here].score))
                self.children.append({})
                self.children[here][token] = child
            path.append(child)
            here = child
        return path

    def text(self, node: int) -> str:
        return self.texts[self.nodes[node].token]

    def log_prob(self, node: int) -> float | None:
        """The target's log-probability of a node's token (nats), or None where the trace does not hold it."""
        one = self.nodes[node]
        if node == 0 or node >= self._in_trace:
            return None
        parent = self.nodes[one.parent]
        return one.score - parent.score if parent.verified is not None else None

    def drafted_instead(self, node: int) -> list[int]:
        """The nodes that the draft proposed in the place of a node, likeliest first."""
        siblings = self.children[self.nodes[node].parent].values()
        drafted = [n for n in siblings if n != node and self.nodes[n].drafted is not None]
        return sorted(drafted, key=lambda n: (-self.nodes[n].score, n))

    def describe(self, node: int, state: str, verified: int | None = None) -> str:
        """A node in words, a fact a line, as known when round `verified` was verified (None: at the end)."""
        one, log_prob = self.nodes[node], self.log_prob(node)
        lines = [f"{visible(self.text(node))}   (token {one.token}, step {one.depth})", STATES[state].label]
        if one.drafted is not None:
            lines[-1] += f", in pass {one.drafted}"
        if state == OPEN:
            return "\n".join(lines)
        if log_prob is None:
            lines.append("log-probability: not in the trace")
        else:
            lines.append(f"log-probability {log_prob:.3f} nats, of the whole sequence {one.score:.3f}")
        if one.verified is not None and (verified is None or one.verified <= verified):
            lines.append("verified with the prompt" if one.verified == 0 else f"verified in pass {one.verified}")
        return "\n".join(lines)

    @cached_property
    def committed(self) -> list[int]:
        """The round that paid for each step: the last one that verified any running node up to that step."""
        rounds, latest = [], 0
        for running in self.steps:
            latest = max([latest, *(self.nodes[n].verified or 0 for n in running)])
            rounds.append(latest)
        return rounds

    @cached_property
    def steps_of(self) -> Counter[int]:
        """How many steps each round paid for."""
        return Counter(self.committed)

    @cached_property
    def taken(self) -> list[int | None]:
        """The step at which the search took each node, or None; ends of results one step after their parent."""
        found = [node.asked for node in self.nodes]
        for path in self.results:
            if path and found[path[-1]] is None:
                before = self.nodes[path[-1]].parent
                found[path[-1]] = (found[before] or 0) + 1
        return found

    def at(self, round: int | None = None, before: bool = False) -> Moment:
        """The trace after a round; with `before`, when the draft has proposed and the target has not verified yet.

        None is the end. Raises ValueError for a round that the trace does not have.
        """
        last = len(self.trace.rounds) - 1
        if round is None:
            round, before = last, False
        if not 0 <= round <= last:
            raise ValueError(f"round {round} is out of range: this trace has the rounds 0 (the prompt) to {last}.")
        verified = round - before
        steps = sum(one <= verified for one in self.committed)
        return Moment(round, before, *self._states(round, verified, steps), steps)

    def _states(self, round: int, verified: int, steps: int) -> tuple[dict[int, str], dict[int, str]]:
        over = steps == len(self.steps) and bool(self.results)
        running = [] if over or not self.steps else self.steps[min(steps, len(self.steps) - 1)]
        ends = [path[-1] for path in self.results if path and (self.taken[path[-1]] or 0) <= steps]
        on_running, on_finished = self._with_ancestors(running), self._with_ancestors(ends)
        reachable = set(running)
        states, branches = {0: PROMPT}, {0: RUNNING}
        for number, node in enumerate(self.nodes[1:], start=1):
            if node.parent in reachable:
                reachable.add(number)
            step = self.taken[number]
            if step is not None and step <= steps:
                others = any(self._drafted(n, round) for n in self.children[node.parent].values())
                drafted = self._drafted(number, round)
                states[number] = ACCEPTED if drafted else CORRECTED if others else UNDRAFTED
                branches[number] = FINISHED if number in on_finished else RUNNING if number in on_running else DIED
            elif self._drafted(number, round):
                states[number] = REJECTED if self._drafted(number, verified) and number not in reachable else OPEN
        return states, branches

    def _drafted(self, node: int, round: int) -> bool:
        """Whether a node was drafted in this round or before."""
        drafted = self.nodes[node].drafted
        return drafted is not None and drafted <= round

    def _with_ancestors(self, nodes: list[int]) -> set[int]:
        found: set[int] = set()
        for node in nodes:
            while node >= 0 and node not in found:
                found.add(node)
                node = self.nodes[node].parent
        return found
