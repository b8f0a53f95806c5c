"""Greedy search, and sampling in transformers' manner: one token a step, picked from the processed logits.

Follows the semantics of `GenerationMixin._sample`: logits in float32, processors on logits, finished sequences
padded. It never knows where the logits came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LogitsProcessorList, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from .forbidden import only_forbid, without_forbidden
from .source import Source
from .tree import ROOT, TokenTree, Tops

Pick = Callable[[Tensor, Sequence[TokenTree], Sequence[int]], Tensor]  # scores, and the nodes that they are of


@dataclass(frozen=True)
class SearchResult:
    """Token lists (prompt excluded), scores in nats, and for beam search the rows that each step continued."""

    sequences: list[list[int]]
    scores: list[float]
    beam_indices: list[list[int]] | None = None


def argmax(scores: Tensor, *_: object) -> Tensor:
    """Greedy's pick: (rows, vocabulary) -> (rows,)."""
    return scores.argmax(-1)


def clear_winners(tops: Tops, active: list[bool]) -> Tensor | None:
    """What `argmax` gives, from the likeliest tokens (rows, 1, k) alone; None where two of an active row are tied."""
    log_probs = tops.log_probs[:, 0]
    if log_probs.shape[1] < 2 or not (log_probs[:, 0] > log_probs[:, 1])[active].all():
        return None
    return torch.from_numpy(tops.tokens[:, 0, 0])


def multinomial(scores: Tensor, *_: object) -> Tensor:
    """Sampling's pick from softmax(scores): (rows, vocabulary) -> (rows,). Draws as transformers does."""
    return torch.multinomial(scores.softmax(-1), num_samples=1).squeeze(1)


def own_copy(logits: Tensor, device: torch.device) -> Tensor:
    """`logits` in float32, and the caller's own: a processor may change them in place."""
    return logits.to(device, torch.float32, copy=True)


def token_search(
    source: Source,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    pick: Pick = argmax,
    streamer: BaseStreamer | None = None,
) -> SearchResult:
    """Decode every prompt of a source that has started, with `pick`, until all sequences meet the stopping criteria.

    A score is the sum of the target's own log-probabilities of the returned tokens. A `streamer` is shown the tokens of
    every step, and the end.
    """
    trees, sequences, pad = source.trees, source.request.input_ids, source.request.pad_token
    nodes = [ROOT] * len(trees)
    unfinished = torch.ones(len(trees), dtype=torch.long, device=sequences.device)
    generated: list[list[int]] = [[] for _ in trees]
    tops_suffice = pick is argmax and only_forbid(processors)
    while True:
        active = unfinished.bool().tolist()
        running = [[node] if going else [] for node, going in zip(nodes, active, strict=True)]
        source.step(running)
        tokens = None
        if tops_suffice:
            tops = without_forbidden(source.tops(running), processors, sequences.shape[1])
            tokens = clear_winners(tops, active)
        if tokens is None:
            scores = processors(sequences, own_copy(source.rows(running)[:, 0], sequences.device))  # type: ignore[arg-type]
            tokens = pick(scores, trees, nodes)
        tokens = tokens.to(sequences.device) * unfinished + pad * (1 - unfinished)
        sequences = torch.cat([sequences, tokens[:, None]], dim=1)
        if streamer is not None:
            streamer.put(tokens.cpu())
        for b, token in enumerate(tokens.tolist()):
            if active[b]:
                generated[b].append(token)
                nodes[b] = trees[b].child(nodes[b], token)
        unfinished = unfinished & ~criteria(sequences, None)  # type: ignore[arg-type]
        if not unfinished.any():
            if streamer is not None:
                streamer.end()
            scores = [tree.scores[node] for tree, node in zip(trees, nodes, strict=True)]
            return SearchResult(generated, scores)
