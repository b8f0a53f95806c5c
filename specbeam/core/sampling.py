"""Speculative sampling by rejection: the draft's random draws, kept so that the target's distribution results.

Leviathan et al. 2023 (algorithm 1) and Chen et al. 2023 (algorithm 2): a token x drawn from the draft's q is kept
with probability min(1, p(x) / q(x)); the first one refused is replaced by a draw from max(0, p - q), normalised.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .draft import Proposal
from .greedy import Found
from .source import Speculative
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
    source: Speculative,
    trees: list[TokenTree],
    input_ids: Tensor,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    config: GenerationConfig,
    *,
    chain: int,
    generator: torch.Generator | None = None,
) -> Found:
    """Sample a continuation of every prompt; each pass verifies one chain of up to `chain` drafted tokens a prompt.

    `input_ids` are the left-padded prompts, shape (batch, prompt length). The processors (temperature, top-k, …)
    shape the target's distribution; the draft proposes as it likes.
    """
    states = [_State(b, tree, row, chain) for b, (tree, row) in enumerate(zip(trees, input_ids, strict=True))]
    while not all(state.done for state in states):
        began = time.perf_counter()
        chains = [[] if state.done else state.draw(source, generator) for state in states]
        source.verify([[] if s.done else [s.node] for s in states], chains, began)
        for state, drafted in zip(states, chains, strict=True):
            if not state.done:
                state.settle(drafted, processors, criteria, generator, source)
    return Found([s.tokens for s in states], [s.tree.scores[s.node] for s in states])


class _State:
    """One prompt's walk: the node it stands on, its tokens, and the drafted distributions still to be judged."""

    def __init__(self, b: int, tree: TokenTree, row: Tensor, chain: int):
        self.b, self.tree, self.row, self.chain = b, tree, row, chain
        self.node, self.done = ROOT, False
        self.tokens: list[int] = []
        self.q: list[Tensor] = []

    def draw(self, source: Speculative, generator: torch.Generator | None) -> list[int]:
        """Draw a chain of tokens from the draft; returns its nodes."""
        self.q, nodes, node = [], [], self.node
        device = self.row.device
        source.draft.follow(self.b, [node])
        while len(nodes) < min(self.chain, source.most_drafted) and self.tree.depths[node] < source.max_depth:
            asked: list[list[int]] = [[] for _ in source.trees]
            asked[self.b] = [node]
            q = draft_distribution(source.draft.expand(source.trees, asked)[self.b][0], source.vocabulary, device)
            if q is None:
                break
            token = int(torch.multinomial(q, 1, generator=generator))
            self.q.append(q)
            node = self.tree.child(node, token)
            nodes.append(node)
            if token in source.stop_tokens:  # judged by the rule like any other, but nothing follows it
                break
        return nodes

    def settle(
        self,
        drafted: list[int],
        processors: LogitsProcessorList,
        criteria: StoppingCriteriaList,
        generator: torch.Generator | None,
        source: Speculative,
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
