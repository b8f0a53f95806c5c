"""TextDraft: a draft model with a vocabulary of its own proposes through the text.

It reads the tree in its own tokens, as trees that follow the target's (`TokenMapping`), and what it finds likely is
read back as the target's first token of that text. A token of the target may be several of the draft's
("international" as "intern", "ational"), so the likeliest continuation is followed a little further before it is read.
Related to the string-level and token-level methods of Timor et al. 2025 ("Accelerating LLM Inference with Lossless
Speculative Decoding Algorithms for Heterogeneous Vocabularies") and to transformers' universal assisted generation,
which draft one line of text; here it is a tree.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.core.draft import Draft, Proposal
from specbeam.core.tree import ROOT, TokenTree

from .model import ModelDraft
from .token_mapping import TokenMapping

Chain = list[Proposal]  # a run of the draft's tokens


class TextDraft(Draft):
    """A smaller causal LM with another vocabulary than the target's.

    Args:
        model: the draft model.
        mapping: how it writes the target's tokens.
        width: proposals a node, before they are read back; fewer come out where several begin with the same token.
        ahead: how many tokens more to follow the likeliest continuation of a node, for target tokens that are several
            of the draft's.

    After `start`, `prompt_overlap` is the share of the prompts' tokens that are one token on both sides.
    """

    def __init__(self, model: PreTrainedModel, mapping: TokenMapping, width: int = 8, ahead: int = 1):
        if ahead < 0:
            raise ValueError(f"ahead must not be negative, got {ahead}.")
        self.inner, self.mapping, self.ahead = ModelDraft(model, width), mapping, ahead
        self.model, self.prompt_overlap = self.inner.model, 0.0

    @property
    def overlap(self) -> float:
        """The share of the target's tokens that the draft has as well."""
        return self.mapping.overlap

    @property
    def passes(self) -> int:  # type: ignore[override]
        return self.inner.passes

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        prompts = [tree.prompt for tree in trees]
        tokens = [token for prompt in prompts for token in prompt]
        self.prompt_overlap = sum(map(self.mapping.is_shared, tokens)) / len(tokens)
        texts = [
            self._opened([piece for token in prompt for piece in self.mapping.in_draft(token)]) for prompt in prompts
        ]
        ids, mask = torch.zeros(2, len(texts), max(map(len, texts)), dtype=torch.long)
        for b, text in enumerate(texts):
            ids[b, -len(text) :] = torch.tensor(text)
            mask[b, -len(text) :] = 1
        self._shadows = [TokenTree(text) for text in texts]
        self._places = [{ROOT: ROOT} for _ in trees]  # node of a tree -> node of its shadow
        self._trees = trees
        device = self.model.device
        self.inner.start(self._shadows, ids.to(device), mask.to(device))

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        places = [[self._place(b, node) for node in asked] for b, asked in enumerate(nodes)]
        chains = [[[[one] for one in likely] for likely in some] for some in self._asked(places)]
        ends = places
        for _ in range(self.ahead):
            ends = [
                [self._end(b, end, found) for end, found in zip(some, at, strict=True)]
                for b, (some, at) in enumerate(zip(ends, chains, strict=True))
            ]
            for found, after in zip(chains, self._asked(ends), strict=True):
                for at, likely in zip(found, after, strict=True):
                    if at and likely:
                        at[0].append(likely[0])
        return [[self._read(at) for at in found] for found in chains]

    def compact(self, running: list[list[int]]) -> None:
        self.inner.compact([[self._place(b, node) for node in nodes] for b, nodes in enumerate(running)])

    def finish(self) -> None:
        self.inner.finish()

    def _asked(self, places: list[list[int]]) -> list[list[list[Proposal]]]:
        """The draft's proposals at nodes of the shadows; every node is read once."""
        once = [list(dict.fromkeys(some)) for some in places]
        answers = self.inner.expand(self._shadows, once)
        found = [dict(zip(some, likely, strict=True)) for some, likely in zip(once, answers, strict=True)]
        return [[at[place] for place in some] for at, some in zip(found, places, strict=True)]

    def _end(self, b: int, end: int, chains: list[Chain]) -> int:
        """Where the likeliest chain goes on in the shadow."""
        return self._shadows[b].child(end, chains[0][-1].token) if chains else end

    def _place(self, b: int, node: int) -> int:
        """The shadow's node for a node of the tree."""
        tree, shadow, places = self._trees[b], self._shadows[b], self._places[b]
        above = []
        while node not in places:
            above.append(node)
            node = tree.parents[node]
        place = places[node]
        for below in reversed(above):
            for piece in self.mapping.in_draft(tree.tokens[below]):
                place = shadow.child(place, piece)
            places[below] = place
        return place

    def _read(self, chains: list[Chain]) -> list[Proposal]:
        """The target's tokens for what the draft finds likely; what begins with the same token adds up."""
        readings = [self._first(chain[:1]) for chain in chains]
        if chains and len(chains[0]) > 1:
            (short, log_prob), (long, joint) = readings[0], self._first(chains[0])
            if long != short:  # the long token has its part of the short one's probability
                readings.append((long, joint))
                readings[0] = (short, _difference(log_prob, joint))
        found: dict[int, float] = {}
        for token, log_prob in readings:
            if token is not None and log_prob > -math.inf:
                found[token] = _sum(found.get(token, -math.inf), log_prob)
        return [Proposal(token, log_prob) for token, log_prob in sorted(found.items(), key=lambda item: -item[1])]

    def _first(self, chain: Chain) -> tuple[int | None, float]:
        """The target's first token of a run of the draft's, and the log-probability of what it reaches over."""
        token, reach = self.mapping.in_target([one.token for one in chain])
        return token, sum(one.log_prob for one in chain[:reach])

    def _opened(self, text: list[int]) -> list[int]:
        opening = self.mapping.opening
        text = text if text[: len(opening)] == opening else [*opening, *text]
        return text or [0]


def _sum(a: float, b: float) -> float:
    """log(exp(a) + exp(b)); b is finite."""
    high = max(a, b)
    return high + math.log(math.exp(a - high) + math.exp(b - high))


def _difference(a: float, b: float) -> float:
    """log(exp(a) - exp(b)), and -inf where b is not less."""
    return a + math.log(-math.expm1(b - a)) if b < a else -math.inf
