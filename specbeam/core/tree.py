"""TokenTree: a prefix tree of token ids, with the target's next-token scores at each node. It knows no model.

Node 0 is the root and stands for the whole prompt. Every other node is one token after its parent, so a
node is a sequence: the prompt followed by the tokens on the path from the root. Nodes are numbered in the
order of their making, hence a parent always has a smaller number than its children.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

ROOT = 0


class TopTokens(NamedTuple):
    """The target's likeliest next tokens after a node, best first, and their log-probabilities in nats."""

    tokens: list[int]
    log_probs: list[float]


class Tops(NamedTuple):
    """The likeliest next tokens as a search reads them: ids of shape (…, k), best first, and log-probabilities."""

    tokens: np.ndarray
    log_probs: np.ndarray  # float32, in nats


class TokenTree:
    """The sequences that one prompt's search and drafts have considered so far.

    A node is *scored* once the target has given its logits for the token after it (`record`). The full row of logits
    is large, as may be what a search reads off it: they are only kept while the search may still ask for them
    (`release`). The few likeliest tokens stay.
    """

    def __init__(self, prompt: list[int]):
        self.prompt = prompt
        self.tokens: list[int] = [prompt[-1]]
        self.parents: list[int] = [-1]
        self.depths: list[int] = [0]
        self.scores: list[float] = [0.0]
        self.children: list[dict[int, int]] = [{}]
        self.top: list[TopTokens | None] = [None]
        self._rows: dict[int, tuple[Tensor, float, Tops | None]] = {}

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
        self.top.append(None)
        self.children[node][token] = child
        return child

    def record(
        self, node: int, logits: Tensor, log_normalizer: float, top: TopTokens, tops: Tops | None = None
    ) -> None:
        """Store the target's `logits` at `node`, shape (vocabulary,), their logsumexp and the likeliest tokens.

        `tops` are as many of them as the search wants. Guessed scores of the children become the target's own;
        everything below them moves along.
        """
        self._rows[node] = (logits, log_normalizer, tops)
        self.top[node] = top
        for token, child in self.children[node].items():
            score = self.scores[node] + self._log_prob(node, token)
            change, self.scores[child] = score - self.scores[child], score
            below = [*self.children[child].values()] if change else []
            while below:
                current = below.pop()
                # once -inf, always -inf: the difference of two infinite scores is no number
                self.scores[current] = -math.inf if score == -math.inf else self.scores[current] + change
                below.extend(self.children[current].values())

    def _log_prob(self, node: int, token: int) -> float:
        """The target's log-probability of `token` after `node`; the likeliest are not looked up in the large row."""
        tokens, log_probs = self.top[node]  # type: ignore[misc]
        if token in tokens:
            return log_probs[tokens.index(token)]
        logits, log_normalizer, tops = self._rows[node]
        if tops is not None and (found := np.flatnonzero(tops.tokens == token)).size:
            return float(tops.log_probs[found[0]])
        return float(logits[token]) - log_normalizer

    def log_probs(self, node: int, tokens: Sequence[int]) -> list[float]:
        """The target's log-probabilities in nats of some tokens after a node that is scored and not released."""
        logits, log_normalizer, _ = self._rows[node]
        return (logits[list(tokens)].double() - log_normalizer).tolist()

    def logits(self, node: int) -> Tensor | None:
        """The target's logits at `node`, of shape (vocabulary,), or None if not scored or released."""
        row = self._rows.get(node)
        return None if row is None else row[0]

    def tops(self, node: int) -> Tops | None:
        """What the search reads off the logits at `node`, each of shape (k,), or None if not scored or released."""
        row = self._rows.get(node)
        return None if row is None else row[2]

    def release(self, depth: int) -> None:
        """Drop the logits of all nodes above `depth`: no search looks back."""
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

    def reachable(self, running: list[int]) -> set[int]:
        """The nodes that a search with these running sequences can still use: their ancestors and descendants."""
        reachable = set(running)
        for node in range(min(running), len(self.tokens)):
            if self.parents[node] in reachable:
                reachable.add(node)
        for node in running:
            while node != ROOT and (node := self.parents[node]) not in reachable:
                reachable.add(node)
        return reachable
