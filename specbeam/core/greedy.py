"""Greedy search, and sampling in transformers' manner: one token a step, picked from the processed logits.

Follows the semantics of `GenerationMixin._sample`: logits in float32, processors on logits, finished sequences
padded. It never knows where the logits came from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .autoregressive import Autoregressive
from .tree import ROOT, TokenTree

Pick = Callable[[Tensor, Sequence[TokenTree], Sequence[int]], Tensor]  # scores, and the nodes that they are of


@dataclass(frozen=True)
class Found:
    """What a search returns: token lists (prompt excluded), scores in nats, and beam origins for beam search."""

    sequences: list[list[int]]
    scores: list[float]
    beam_indices: list[list[int]] | None = None


def argmax(scores: Tensor, *_: object) -> Tensor:
    """Greedy's pick: (rows, vocabulary) -> (rows,)."""
    return scores.argmax(-1)


def multinomial(scores: Tensor, *_: object) -> Tensor:
    """Sampling's pick from softmax(scores): (rows, vocabulary) -> (rows,). Draws as transformers does."""
    return torch.multinomial(scores.softmax(-1), num_samples=1).squeeze(1)


def token_search(
    source: Autoregressive,
    trees: list[TokenTree],
    input_ids: Tensor,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    config: GenerationConfig,
    pick: Pick = argmax,
) -> Found:
    """Decode every prompt with `pick` until all sequences meet the stopping criteria.

    `input_ids` are the left-padded prompts, shape (batch, prompt length). A score is the sum of the target's own
    log-probabilities of the returned tokens.
    """
    batch = len(input_ids)
    sequences, nodes = input_ids, [ROOT] * batch
    unfinished = torch.ones(batch, dtype=torch.long, device=input_ids.device)
    generated: list[list[int]] = [[] for _ in range(batch)]
    pad = pad_value(config)
    while True:
        alive = unfinished.bool().tolist()
        logits = source.logits([[node] if going else [] for node, going in zip(nodes, alive, strict=True)])
        scores = processors(sequences, logits[:, 0].float().to(sequences.device))  # type: ignore[arg-type]
        tokens = pick(scores, trees, nodes)
        tokens = tokens * unfinished + pad * (1 - unfinished)
        sequences = torch.cat([sequences, tokens[:, None]], dim=1)
        for b, token in enumerate(tokens.tolist()):
            if alive[b]:
                generated[b].append(token)
                nodes[b] = trees[b].child(nodes[b], token)
        unfinished = unfinished & ~criteria(sequences, None)  # type: ignore[arg-type]
        if not unfinished.any():
            scores = [tree.scores[node] for tree, node in zip(trees, nodes, strict=True)]
            return Found(generated, scores)


def pad_value(config: GenerationConfig) -> int:
    """What fills up the rows of finished sequences."""
    return 0 if config._pad_token_tensor is None else int(config._pad_token_tensor)
