"""Speculative sampling by rejection: the draft's random draws, kept so that the target's distribution results.

Leviathan et al. 2023 (algorithm 1) and Chen et al. 2023 (algorithm 2): a token x drawn from the draft's q is kept
with probability min(1, p(x) / q(x)); the first one refused is replaced by a draw from max(0, p - q), normalised.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList

from .draft import Proposal
from .greedy import SearchResult
from .source import Source
from .tree import ROOT, TokenTree


def accept_or_replace(
    target_probs: Tensor, draft_probs: Tensor, token: int, generator: torch.Generator | None = None
) -> tuple[bool, int]:
    """The rejection rule for one drafted `token`; both distributions have shape (vocabulary,).

    Returns whether the token is kept, and the token that stands in its place.
    """
    uniform = torch.rand((), generator=generator, device=target_probs.device)
    if uniform * draft_probs[token] < target_probs[token]:
        return True, token
    residue = (target_probs - draft_probs).clamp_(min=0)
    if not residue.any():  # p equals q up to rounding: either is right
        residue = target_probs
    return False, int(torch.multinomial(residue, 1, generator=generator))


def draft_distribution(proposals: Sequence[Proposal], vocabulary: int, device: torch.device) -> Tensor | None:
    """The draft's q over the vocabulary, from which its token is drawn: its proposals, normalised; None without any.

    Proposals that the target has no logit for are left out.
    """
    proposals = [proposal for proposal in proposals if 0 <= proposal.token < vocabulary]
    if not proposals:
        return None
    tokens = torch.tensor([proposal.token for proposal in proposals], device=device)
    log_probs = torch.tensor([proposal.log_prob for proposal in proposals], device=device)
    return torch.zeros(vocabulary, device=device).index_put_((tokens,), log_probs.softmax(0))


def speculative_sampling(
    source: Source,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    *,
    chain: int,
    generator: torch.Generator | None = None,
) -> SearchResult:
    """Sample a continuation of every prompt of a source that has started.

    Each pass verifies one chain of up to `chain` drafted tokens a prompt. The processors (temperature, top-k, …) shape
    the target's distribution; the draft proposes as it likes.
    """
    walks = [
        _Walk(b, tree, ids) for b, (tree, ids) in enumerate(zip(source.trees, source.request.input_ids, strict=True))
    ]
    while not all(walk.done for walk in walks):
        began = time.perf_counter()
        chains = _draw_chains(source, walks, min(chain, source.draft_size.most), generator)
        source.verify([[] if walk.done else [walk.node] for walk in walks], chains, began)
        for walk, drafted in zip(walks, chains, strict=True):
            if not walk.done:
                walk.settle(drafted, processors, criteria, generator, source)
    return SearchResult([walk.tokens for walk in walks], [walk.tree.scores[walk.node] for walk in walks])


def _draw_chains(source: Source, walks: list[_Walk], length: int, generator: torch.Generator | None) -> list[list[int]]:
    """Draw a chain of nodes from the draft for every walk, all prompts together, token by token."""
    chains: list[list[int]] = [[] for _ in walks]
    ends = [[] if walk.done else [walk.node] for walk in walks]
    for walk, end in zip(walks, ends, strict=True):
        walk.q = []
        source.draft.follow(walk.b, end)
    for _ in range(length):
        ends = [
            [node for node in end if walk.tree.depths[node] < source.max_depth]
            for walk, end in zip(walks, ends, strict=True)
        ]
        if not any(ends):
            break
        proposals = source.draft.expand(source.trees, ends)
        for walk, answers in zip(walks, proposals, strict=True):
            nodes, ends[walk.b] = ends[walk.b], []
            for node, proposed in zip(nodes, answers, strict=True):
                q = draft_distribution(proposed, source.vocabulary, walk.row.device)
                if q is None:
                    continue
                token = int(torch.multinomial(q, 1, generator=generator))
                walk.q.append(q)
                chains[walk.b].append(walk.tree.child(node, token))
                if token not in source.request.stop_tokens:  # judged by the rule like any other, but nothing follows it
                    ends[walk.b] = chains[walk.b][-1:]
    return chains


class _Walk:
    """One prompt's way down its tree: the node it is at, its tokens, and the drafted distributions to be judged."""

    def __init__(self, b: int, tree: TokenTree, row: Tensor):
        self.b, self.tree, self.row = b, tree, row
        self.node, self.done = ROOT, False
        self.tokens: list[int] = []
        self.q: list[Tensor] = []

    def settle(
        self,
        drafted: list[int],
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        generator: torch.Generator | None,
        source: Source,
    ) -> None:
        """Judge the drafted chain token by token; the last token always comes from the target."""
        for i in range(len(drafted) + 1):
            logits = self.tree.logits(self.node)
            assert logits is not None
            scores = processors(self.row[None], logits[None].float().to(self.row.device))  # type: ignore[arg-type]
            p = scores.softmax(-1)[0]
            source.commit(self.b, self.node)
            if i < len(drafted):
                kept, token = accept_or_replace(p, self.q[i], self.tree.tokens[drafted[i]], generator)
            else:
                kept, token = False, int(torch.multinomial(p, 1, generator=generator))
            self.tokens.append(token)
            self.node = self.tree.child(self.node, token)
            self.row = torch.cat([self.row, self.row.new_tensor([token])])
            if bool(criteria(self.row[None], None).all()):  # type: ignore[arg-type]
                self.done = True
                return
            if not kept:
                return
