"""TokenTree: a prefix tree of token ids, with what the target said at each node. There is no model in here.

Node 0 is the root and stands for the whole prompt. Every other node is one token after its parent, so a
node is a sequence: the prompt followed by the tokens on the path from the root. Nodes are numbered in the
order of their making, hence a parent always has a smaller number than its children.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

ROOT = 0


class Verdict(NamedTuple):
    """What the target said at a node about the token that follows it."""

    tokens: list[int]  # the target's likeliest next tokens, best first
    log_probs: list[float]  # their log-probabilities in nats


class TokenTree:
    """The sequences that one prompt's search and drafts have thought of so far.

    A node is *scored* once the target has said what follows it (`record`). The full row of logits is large
    and only wanted while a search may still ask for it (`release`); the few likeliest tokens are kept.
    """

    def __init__(self, prompt: list[int]):
        self.prompt = prompt
        self.tokens: list[int] = [prompt[-1]]
        self.parents: list[int] = [-1]
        self.depths: list[int] = [0]
        self.scores: list[float] = [0.0]
        self.children: list[dict[int, int]] = [{}]
        self.verdicts: list[Verdict | None] = [None]
        self._rows: dict[int, tuple[Tensor, float]] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def child(self, node: int, token: int, score: float | None = None) -> int:
        """The node for `token` after `node`; made if it is new.

        `scores[child]` is the sum of log-probabilities from the root: the target's own where it has scored
        `node`, otherwise the caller's guess `score`.
        """
        known = self.children[node].get(token)
        if known is not None:
            return known
        if node in self._rows:
            score = self.scores[node] + self._log_prob(node, token)
        child = len(self.tokens)
        self.tokens.append(token)
        self.parents.append(node)
        self.depths.append(self.depths[node] + 1)
        self.scores.append(self.scores[node] if score is None else score)
        self.children.append({})
        self.verdicts.append(None)
        self.children[node][token] = child
        return child

    def record(self, node: int, row: Tensor, log_normalizer: float, verdict: Verdict) -> None:
        """Store the target's logits `row` of shape (vocabulary,), their logsumexp and likeliest tokens."""
        self._rows[node] = (row, log_normalizer)
        self.verdicts[node] = verdict
        for token, child in self.children[node].items():
            self._rescore(child, self.scores[node] + self._log_prob(node, token))

    def _log_prob(self, node: int, token: int) -> float:
        """The target's log-probability of `token` after `node`; the likeliest cost no look into the large row."""
        tokens, log_probs = self.verdicts[node]  # type: ignore[misc]
        if token in tokens:
            return log_probs[tokens.index(token)]
        row, log_normalizer = self._rows[node]
        return float(row[token]) - log_normalizer

    def _rescore(self, node: int, score: float) -> None:
        """Replace a guessed score; what is below keeps its distance to it."""
        change = score - self.scores[node]
        self.scores[node] = score
        below = [*self.children[node].values()] if change else []
        while below:
            current = below.pop()
            # once -inf, always -inf: the difference of two infinite scores is no number
            self.scores[current] = -math.inf if score == -math.inf else self.scores[current] + change
            below.extend(self.children[current].values())

    def logits(self, node: int) -> Tensor | None:
        """The target's logits at `node`, of shape (vocabulary,), or None if not scored or released."""
        held = self._rows.get(node)
        return None if held is None else held[0]

    def release(self, depth: int) -> None:
        """Let go of the logits of all nodes above `depth`: no search looks back."""
        for node in [node for node in self._rows if self.depths[node] < depth]:
            del self._rows[node]

    def path(self, node: int) -> list[int]:
        """The generated tokens from the root (exclusive) to `node` (inclusive)."""
        tokens = []
        while node != ROOT:
            tokens.append(self.tokens[node])
            node = self.parents[node]
        return tokens[::-1]

    def suffix(self, node: int, length: int) -> tuple[int, ...]:
        """The last `length` tokens of the sequence at `node`, prompt included (fewer if it is shorter)."""
        tokens: list[int] = []
        while node != ROOT and len(tokens) < length:
            tokens.append(self.tokens[node])
            node = self.parents[node]
        tokens.reverse()
        lacking = length - len(tokens)
        return tuple(self.prompt[-lacking:] + tokens) if lacking else tuple(tokens)

    def living(self, running: list[int]) -> set[int]:
        """The nodes that a search whose beams stand at `running` can still use: ancestors and descendants."""
        living = set(running)
        for node in range(min(running), len(self)):
            if self.parents[node] in living:
                living.add(node)
        for node in running:
            while node != ROOT and (node := self.parents[node]) not in living:
                living.add(node)
        return living
