"""ModelDraft: a smaller causal LM proposes. It has a scorer of its own, and so a cache, over the target's trees."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from specbeam.core.draft import Draft, Proposal
from specbeam.core.scorer import TOP_TOKENS, Output, Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree
from specbeam.engines.target import Target
from specbeam.engines.wrappers import held


class ModelDraft(Draft):
    """A smaller causal LM with the target's vocabulary. It has its own cache over the same trees.

    Args:
        model: the draft model, or a wrapper of one (`engines/wrappers.py`).
        width: proposals a node.
        temperature: None proposes the likeliest tokens; a positive value draws them without replacement from the
            draft's distribution at that temperature (the Gumbel-top-k trick; Kool et al. 2019, section 2.3).
        top_k: with a temperature, draw among the `top_k` likeliest only.
        generator: source of randomness for these draws; None makes one for every decode, seeded with 0.
    """

    def __init__(
        self,
        model: Any,
        width: int = 8,
        temperature: float | None = None,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ):
        if width < 1 or (top_k is not None and top_k < 1):
            raise ValueError(f"width and top_k must be at least 1, got {width} and {top_k}.")
        if temperature is not None and temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}; None proposes the likeliest tokens.")
        self.model, self.width, self.temperature, self.top_k = held(model), width, temperature, top_k
        self.generator, self._own = generator, generator is None
        self._scorer: TreeScorer | None = None

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._proposals: list[dict[int, list[Proposal]]] = [{} for _ in trees]
        if self._own:
            self.generator = None  # what was decoded before shall not matter
        self._scorer = TreeScorer(Target.of(self.model).engine())
        output = self._scorer.start(trees, Request(input_ids, attention_mask))
        for b, proposals in enumerate(self._read(output)):
            self._proposals[b][ROOT] = proposals
        self.passes += 1

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        missing = [self._unread(b, tree, asked) for b, (tree, asked) in enumerate(zip(trees, nodes, strict=True))]
        if any(missing):
            assert self._scorer is not None
            answers = iter(self._read(self._scorer.score(missing)))
            self.passes += 1
            for b, unread in enumerate(missing):
                for node in unread:
                    self._proposals[b][node] = next(answers)
        return [[self._proposals[b][node] for node in asked] for b, asked in enumerate(nodes)]

    def compact(self, running: list[list[int]]) -> None:
        if self._scorer is not None:
            self._scorer.compact(running)

    def finish(self) -> None:
        if self._scorer is not None:
            self._scorer.engine.close()
        self._scorer, self._proposals = None, []

    def _unread(self, b: int, tree: TokenTree, nodes: list[int]) -> list[int]:
        """The nodes and ancestors that the draft has no slot for yet, parents first."""
        unread: set[int] = set()
        assert self._scorer is not None
        for node in nodes:
            while not self._scorer.scored(b, node) and node not in unread:
                unread.add(node)
                node = tree.parents[node]
        return sorted(unread)

    def _read(self, output: Output) -> list[list[Proposal]]:
        if self.temperature is None and self.width <= TOP_TOKENS:
            tops = (each[:, : self.width].tolist() for each in (output.top_tokens, output.top_log_probs))
            return [[*map(Proposal, *row)] for row in zip(*tops, strict=True)]
        log_probs = output.logits.float().log_softmax(-1)
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


def as_draft(draft: Any) -> Any:
    """`draft` if it proposes (or is None, which proposes nothing), and a `ModelDraft` of a causal LM.

    Raises:
        ValueError: for what is neither.
    """
    if draft is None or hasattr(draft, "expand") or hasattr(draft, "propose"):
        return draft
    return ModelDraft(draft)
