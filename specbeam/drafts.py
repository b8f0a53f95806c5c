"""Drafts: what proposes the tokens that the target then verifies. A wrong proposal costs time, never correctness.

A draft answers one question: which tokens may follow this node, and how likely is each? Writing one takes
a method:

    class AlwaysComma(Draft):
        def propose(self, tree, node):
            return [Proposal(token=28, log_prob=-1.0)]

The source (`source.py`) asks it level by level under all running sequences and picks what is worth verifying.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .sequences import scorer_for
from .tree import ROOT, TokenTree, Verdict


class Proposal(NamedTuple):
    """A token that may follow a node, with the draft's log-probability of it in nats."""

    token: int
    log_prob: float


class Draft:
    """The protocol of a draft, and its defaults. A subclass needs `propose`; the rest is there to be overridden."""

    passes = 0
    state_layers: tuple[int, ...] = ()  # which of the target's hidden states this draft reads; 0 is the embedding

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        """A decode begins, with one tree a prompt; forget the last one."""

    def follow(self, b: int, running: list[int]) -> None:
        """The running sequences of prompt `b` now end at the nodes `running`."""

    def observe(self, b: int, nodes: list[int]) -> None:
        """The target has just scored `nodes` of prompt `b`: their `tree.verdicts` are known."""

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        """The target's hidden states after the layers `state_layers`, before `observe`.

        Right after `start` of the prompts, with `nodes` None: (batch, prompt length, layers, hidden size). Later of
        the nodes that a pass scored, prompt after prompt: (number of nodes, layers, hidden size).
        """

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        """Proposals for each node of each prompt, all at once for drafts that gain from a batch."""
        return [[self.propose(tree, node) for node in asked] for tree, asked in zip(trees, nodes, strict=True)]

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        """Tokens that may follow `node`, likeliest first. Few and good ones: every one is paid for."""
        raise NotImplementedError(f"{type(self).__name__} has to define propose(tree, node).")

    def compact(self, running: list[list[int]]) -> None:
        """A moment to let go of what searches that stand at `running` cannot reach any more."""


class NoDraft(Draft):
    """Proposes nothing: the tree then holds just what the search asked for."""

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        return []


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
    """What the target said at the scored node with the longest common suffix, dead branches and siblings included.

    A relative of Token Recycling (Luo et al. 2024), which keeps the last likeliest followers of each token. Running
    beams are near copies, so the target has often already answered for the same last tokens elsewhere in the tree.

    Args:
        max_suffix: longest common suffix to look for, in tokens.
        width: proposals a node.
    """

    # how far to believe a verdict found by 1, 2, 3 or more common tokens, in nats
    trust = (math.log(0.4), math.log(0.7), math.log(0.9))

    def __init__(self, max_suffix: int = 4, width: int = 8):
        if max_suffix < 1 or width < 1:
            raise ValueError(f"max_suffix and width must be at least 1, got {max_suffix} and {width}.")
        self.max_suffix, self.width = max_suffix, width

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._trees = trees
        self._said: dict[int, dict[tuple[int, ...], Verdict]] = {id(tree): {} for tree in trees}

    def observe(self, b: int, nodes: list[int]) -> None:
        tree = self._trees[b]
        said = self._said[id(tree)]
        for node in nodes:
            context, verdict = tree.suffix(node, self.max_suffix), tree.verdicts[node]
            assert verdict is not None
            for length in range(1, len(context) + 1):
                said[context[-length:]] = verdict

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        context, said = tree.suffix(node, self.max_suffix), self._said[id(tree)]
        for length in range(len(context), 0, -1):
            verdict = said.get(context[-length:])
            if verdict:
                trust = self.trust[min(length, len(self.trust)) - 1]
                pairs = zip(verdict.tokens[: self.width], verdict.log_probs, strict=False)
                return [Proposal(token, log_prob + trust) for token, log_prob in pairs]
        return []


class ModelDraft(Draft):
    """A smaller causal LM with the target's vocabulary. It has its own cache over the same trees.

    Args:
        model: the draft model.
        width: proposals a node.
        temperature: None proposes the likeliest tokens; a positive value draws them without replacement from the
            draft's distribution at that temperature (the Gumbel-top-k trick; Kool et al. 2019, section 2.3).
        top_k: with a temperature, draw among the `top_k` likeliest only.
        generator: source of randomness for these draws; None makes one, seeded with 0.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        width: int = 8,
        temperature: float | None = None,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ):
        if width < 1 or (top_k is not None and top_k < 1):
            raise ValueError(f"width and top_k must be at least 1, got {width} and {top_k}.")
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}; None proposes the likeliest tokens.")
        self.model, self.width, self.temperature, self.top_k = model, width, temperature, top_k
        self.generator = generator
        self._scorer = scorer_for(model)

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._proposals: list[dict[int, list[Proposal]]] = [{} for _ in trees]
        logits = self._scorer.start(trees, input_ids, attention_mask)
        for b, proposals in enumerate(self._read(logits)):
            self._proposals[b][ROOT] = proposals
        self.passes += 1

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        missing = [self._unread(b, tree, asked) for b, (tree, asked) in enumerate(zip(trees, nodes, strict=True))]
        if any(missing):
            answers = iter(self._read(self._scorer.score(missing)))
            self.passes += 1
            for b, unread in enumerate(missing):
                for node in unread:
                    self._proposals[b][node] = next(answers)
        return [[self._proposals[b][node] for node in asked] for b, asked in enumerate(nodes)]

    def compact(self, running: list[list[int]]) -> None:
        self._scorer.compact(running)

    def _unread(self, b: int, tree: TokenTree, nodes: list[int]) -> list[int]:
        """The nodes and ancestors that the draft has no slot for yet, parents first."""
        unread: set[int] = set()
        for node in nodes:
            while not self._scorer.scored(b, node) and node not in unread:
                unread.add(node)
                node = tree.parents[node]
        return sorted(unread)

    def _read(self, logits: Tensor) -> list[list[Proposal]]:
        log_probs = logits.float().log_softmax(-1)
        ranking = log_probs
        if self.temperature is not None:
            ranking = log_probs / self.temperature
            if self.top_k is not None:
                kth = ranking.topk(min(self.top_k, ranking.shape[-1])).values[:, -1:]
                ranking = ranking.masked_fill(ranking < kth, -torch.inf)
            if self.generator is None:  # never the global one: a drop-in samples from that as the target would
                self.generator = torch.Generator(ranking.device).manual_seed(0)
            uniform = torch.rand(ranking.shape, generator=self.generator, device=ranking.device)
            ranking = ranking - torch.log(-torch.log(uniform))
        values, tokens = ranking.topk(min(self.width, ranking.shape[-1]))
        chosen = log_probs.gather(-1, tokens).tolist()
        rows = zip(tokens.tolist(), chosen, values.tolist(), strict=True)
        return [[Proposal(t, p) for t, p, v in zip(*row, strict=True) if v > -math.inf] for row in rows]


class UnionDraft(Draft):
    """Several drafts at once; a token that more than one proposes keeps the higher log-probability."""

    def __init__(self, drafts: Sequence[Draft]):
        if not drafts:
            raise ValueError("a union needs at least one draft; NoDraft() proposes nothing.")
        self.drafts = list(drafts)

    @property
    def passes(self) -> int:  # type: ignore[override]
        return sum(draft.passes for draft in self.drafts)

    @property
    def state_layers(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(sorted({layer for draft in self.drafts for layer in draft.state_layers}))

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        for draft in self.drafts:
            draft.start(trees, input_ids, attention_mask)

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        layers = self.state_layers
        for draft in self.drafts:
            if draft.state_layers:
                wanted = [layers.index(layer) for layer in draft.state_layers]
                draft.read_states(states[..., wanted, :], nodes)

    def follow(self, b: int, running: list[int]) -> None:
        for draft in self.drafts:
            draft.follow(b, running)

    def observe(self, b: int, nodes: list[int]) -> None:
        for draft in self.drafts:
            draft.observe(b, nodes)

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        answers = [draft.expand(trees, nodes) for draft in self.drafts]
        return [
            [_merge([answer[b][i] for answer in answers]) for i in range(len(asked))] for b, asked in enumerate(nodes)
        ]

    def compact(self, running: list[list[int]]) -> None:
        for draft in self.drafts:
            draft.compact(running)


def _merge(lists: list[list[Proposal]]) -> list[Proposal]:
    best: dict[int, float] = {}
    for token, log_prob in (proposal for proposals in lists for proposal in proposals):
        best[token] = max(log_prob, best.get(token, -math.inf))
    return [Proposal(token, log_prob) for token, log_prob in sorted(best.items(), key=lambda item: -item[1])]
