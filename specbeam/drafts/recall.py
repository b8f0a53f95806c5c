"""Drafts without a model: they look up what followed the same tokens, in the text or by the target's own scores."""

from __future__ import annotations

import math
from collections import Counter

from torch import Tensor

from specbeam.core.draft import Draft, Proposal
from specbeam.core.tree import ROOT, TokenTree, TopTokens


class NgramDraft(Draft):
    """Prompt lookup (Saxena 2023): what followed the same last tokens earlier in the prompt or in the text so far.

    Args:
        max_ngram: longest run of tokens to look up; shorter ones are tried when it has not occurred.
    """

    # how often the looked-up token was right for a match of 1, 2, 3 or more tokens, in nats
    trust = (math.log(0.1), math.log(0.6), math.log(0.9))

    def __init__(self, max_ngram: int = 3):
        if max_ngram < 1:
            raise ValueError(f"max_ngram must be at least 1, got {max_ngram}.")
        self.max_ngram = max_ngram

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._trees = trees
        self._followers: dict[int, dict[tuple[int, ...], Counter[int]]] = {}
        self._read: list[set[int]] = [{ROOT} for _ in trees]
        for tree in trees:
            followers = self._followers[id(tree)] = {}
            for end in range(1, len(tree.prompt)):
                for length in range(1, min(self.max_ngram, end) + 1):
                    ngram = tuple(tree.prompt[end - length : end])
                    followers.setdefault(ngram, Counter())[tree.prompt[end]] += 1

    def follow(self, b: int, running: list[int]) -> None:
        tree, read = self._trees[b], self._read[b]
        followers = self._followers[id(tree)]
        for node in running:
            while node not in read:
                read.add(node)
                context = tree.suffix(tree.parents[node], self.max_ngram)
                for length in range(1, len(context) + 1):
                    followers.setdefault(context[-length:], Counter())[tree.tokens[node]] += 1
                node = tree.parents[node]

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        context, followers = tree.suffix(node, self.max_ngram), self._followers[id(tree)]
        for length in range(len(context), 0, -1):
            seen = followers.get(context[-length:])
            if seen:
                trust = self.trust[min(length, len(self.trust)) - 1] - math.log(seen.total())
                return [Proposal(token, trust + math.log(count)) for token, count in seen.most_common(3)]
        return []


class RecallDraft(Draft):
    """The target's likeliest tokens at the scored node with the longest common suffix, dead branches included.

    A relative of Token Recycling (Luo et al. 2024), which keeps the last likeliest followers of each token. Running
    beams are near copies, so the target has often already answered for the same last tokens elsewhere in the tree.

    Args:
        max_suffix: longest common suffix to look for, in tokens.
        width: proposals a node.
    """

    # how far to believe what is found by 1, 2, 3 or more common tokens, in nats
    trust = (math.log(0.4), math.log(0.7), math.log(0.9))

    def __init__(self, max_suffix: int = 4, width: int = 8):
        if max_suffix < 1 or width < 1:
            raise ValueError(f"max_suffix and width must be at least 1, got {max_suffix} and {width}.")
        self.max_suffix, self.width = max_suffix, width

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._trees = trees
        self._seen: dict[int, dict[tuple[int, ...], TopTokens]] = {id(tree): {} for tree in trees}

    def observe(self, b: int, nodes: list[int]) -> None:
        tree = self._trees[b]
        seen = self._seen[id(tree)]
        for node in nodes:
            context, top = tree.suffix(node, self.max_suffix), tree.top[node]
            assert top is not None
            for length in range(1, len(context) + 1):
                seen[context[-length:]] = top

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        context, seen = tree.suffix(node, self.max_suffix), self._seen[id(tree)]
        for length in range(len(context), 0, -1):
            top = seen.get(context[-length:])
            if top:
                trust = self.trust[min(length, len(self.trust)) - 1]
                pairs = zip(top.tokens[: self.width], top.log_probs, strict=False)
                return [Proposal(token, log_prob + trust) for token, log_prob in pairs]
        return []
