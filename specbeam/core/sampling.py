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
from transformers.generation.streamers import BaseStreamer

from .draft import Proposal
from .greedy import SearchResult, own_copy
from .source import Source
from .tree import ROOT, TokenTree

Chain = list[tuple[int, Tensor]]  # drafted nodes, each with the distribution that its token was drawn from


def accept_or_replace(
    target_probs: Tensor, draft_probs: Tensor, token: int, generator: torch.Generator | None = None
) -> tuple[bool, int]:
    """The rejection rule for one drafted `token`; both distributions have shape (vocabulary,).

    Returns whether the token is kept, and the token that stands in its place.
    """
    uniform = torch.rand((), generator=generator, device=target_probs.device, dtype=target_probs.dtype)
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
    log_probs = torch.tensor([proposal.log_prob for proposal in proposals], dtype=torch.float32, device=device)
    return torch.zeros(vocabulary, dtype=torch.float32, device=device).index_put_((tokens,), log_probs.softmax(0))


def speculative_sampling(
    source: Source,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    *,
    chain: int,
    generator: torch.Generator | None = None,
    streamer: BaseStreamer | None = None,
) -> SearchResult:
    """Sample a continuation of every prompt of a source that has started.

    A pass verifies a chain of up to `chain` drafted tokens a prompt. The processors (temperature, top-k, …) shape the
    target's distribution; the draft proposes as it likes. All prompts take a step together, so that processors,
    criteria and the `streamer` are shown what transformers shows them.
    """
    trees, sequences, pad = source.trees, source.request.input_ids, source.request.pad_token
    nodes = [ROOT] * len(trees)
    chains: list[Chain] = [[] for _ in trees]
    unfinished = torch.ones(len(trees), dtype=torch.long, device=sequences.device)
    generated: list[list[int]] = [[] for _ in trees]
    while unfinished.any():
        running = [[node] if going else [] for node, going in zip(nodes, unfinished.bool().tolist(), strict=True)]
        if any(tree.logits(node) is None for tree, some in zip(trees, running, strict=True) for node in some):
            began = time.perf_counter()
            _draw(source, running, chains, min(chain, source.draft_size.most), generator)
            unscored = [
                [node for node, _ in some if tree.logits(node) is None]
                for tree, some in zip(trees, chains, strict=True)
            ]
            source.verify(running, unscored, began)
        logits = source.logits(running)
        scores = processors(sequences, own_copy(logits[:, 0], sequences.device))  # type: ignore[arg-type]
        tokens = torch.full_like(unfinished, pad)
        for b, probs in enumerate(scores.softmax(-1)):
            if not running[b]:
                continue
            tokens[b] = token = _settle(trees[b], chains[b], probs, generator)
            generated[b].append(token)
            nodes[b] = trees[b].child(nodes[b], token)
        sequences = torch.cat([sequences, tokens[:, None]], dim=1)
        if streamer is not None:
            streamer.put(tokens.cpu())
        unfinished = unfinished & ~criteria(sequences, None)  # type: ignore[arg-type]
    if streamer is not None:
        streamer.end()
    return SearchResult(generated, [tree.scores[node] for tree, node in zip(trees, nodes, strict=True)])


def _draw(
    source: Source, running: list[list[int]], chains: list[Chain], length: int, generator: torch.Generator | None
) -> None:
    """Lengthen every chain to `length` tokens with draws from the draft, all prompts together, token by token."""
    for b, some in enumerate(running):
        source.draft.follow(b, some)
    last = source.max_depth(running)
    while True:
        ends: list[list[int]] = []
        for tree, some, drafted in zip(source.trees, running, chains, strict=True):
            end = [drafted[-1][0]] if drafted else some
            # a drafted stop token is judged by the rule like any other, but nothing follows it
            ended = bool(drafted) and tree.tokens[end[0]] in source.request.stop_tokens
            ends.append([node for node in end if not ended and len(drafted) < length and tree.depths[node] < last])
        if not any(ends):
            return
        drew = False
        for b, (end, answers) in enumerate(zip(ends, source.draft.expand(source.trees, ends), strict=True)):
            for node, proposals in zip(end, answers, strict=True):
                q = draft_distribution(proposals, source.vocabulary, source.request.input_ids.device)
                if q is not None:
                    token = int(torch.multinomial(q, 1, generator=generator))
                    chains[b].append((source.trees[b].child(node, token), q))
                    drew = True
        if not drew:
            return


def _settle(tree: TokenTree, chain: Chain, probs: Tensor, generator: torch.Generator | None) -> int:
    """The token of a step from the target's `probs`, of shape (vocabulary,); a chain is over where it is refused."""
    if not chain or tree.logits(chain[0][0]) is None:  # its pass had to do without it
        chain.clear()
        return int(torch.multinomial(probs, 1, generator=generator))
    drafted, q = chain.pop(0)
    kept, token = accept_or_replace(probs, q, tree.tokens[drafted], generator)
    if not kept:
        chain.clear()
    return token
