"""Beam search with exactly the semantics of transformers' `GenerationMixin._beam_search`.

Each step ranks all continuations of all running beams, lets finished ones of the first `num_beams` ranks into
the pool of results, and runs on with the best unfinished ones. Tensors are (batch, beams, …). It never knows
where the logits came from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .greedy import SearchResult
from .scorer import Request
from .source import Source
from .tree import ROOT

NEVER = -1.0e9  # the score of what must not win; transformers' value, since float32 rounding makes it visible


@dataclass
class Beams:
    """A set of sequences a prompt: tokens (batch, beams, length), scores (batch, beams), origins (…, steps)."""

    tokens: Tensor
    scores: Tensor
    origins: Tensor  # for each step the row of the beam that it continued; -1 beyond the end

    def take(self, index: Tensor, scores: Tensor) -> Beams:
        """The beams at `index`, shape (batch, chosen), with new `scores`."""
        wide = index[..., None]
        return Beams(self.tokens.take_along_dim(wide, 1), scores, self.origins.take_along_dim(wide, 1))


# the nodes to ask for, their scores (batch, beams) -> the nodes to ask for, what to add to the rows' scores
Narrow = Callable[[Source, list[list[int]], Tensor], tuple[list[list[int]], Tensor]]


def beam_search(
    source: Source,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    config: GenerationConfig,
    narrow: Narrow | None = None,
) -> SearchResult:
    """Decode every prompt of a source that has started; returns `num_return_sequences` a prompt, best first.

    Args:
        config: for `max_length`, `early_stopping`, `length_penalty` and `num_return_sequences`; what the request of the
            source holds comes from there.
        narrow: *not exact* unless it is None: chooses running sequences that a step does without.
    """
    request, trees = source.request, source.trees
    input_ids, beams, eos = request.input_ids, request.num_beams, request.stop_tokens
    batch, prompt = input_ids.shape
    stops, penalty, limit, device = config.early_stopping, config.length_penalty, config.max_length, input_ids.device
    candidates = max(2, 1 + len(eos)) * beams

    tokens = torch.full((batch, beams, limit), fill_token(request), dtype=torch.long, device=device)
    tokens[:, :, :prompt] = input_ids[:, None]
    origins = torch.full((batch, beams, limit - prompt), -1, dtype=torch.int32, device=device)
    start = torch.full((batch, beams), NEVER, dtype=torch.float32, device=device)
    pool = Beams(tokens.clone(), start.clone(), origins.clone())
    start[:, 0] = 0  # all beams are alike at first: only one may have continuations
    running = Beams(tokens, start, origins)
    in_pool = torch.zeros((batch, beams), dtype=torch.bool, device=device)
    hopeful = torch.ones((batch, 1), dtype=torch.bool, device=device)  # might a running beam still enter the pool?
    may_finish = torch.arange(candidates, device=device) < beams
    first_row = torch.arange(batch, device=device)[:, None] * beams
    nodes = [[ROOT] * beams for _ in range(batch)]

    for length in range(prompt, limit):
        full = in_pool.all(1, keepdim=True) & (stops is True)
        # equal scores may change places in topk as long as the loop goes on, whatever the other candidates are
        distinct = (pool.scores.diff(dim=1) < 0).all(1, keepdim=True)
        fixed = (full | ~hopeful) & (pool.scores[:, -1:] > NEVER / 10) & distinct
        settled = fixed.squeeze(1).tolist()
        asked = [[] if done else rows for rows, done in zip(nodes, settled, strict=True)]
        before = running.scores
        if narrow is not None:
            asked, handicap = narrow(source, asked, before)
            before = before + handicap
        logits = source.logits(asked)
        log_probs = logits.reshape(batch * beams, -1).float().to(device).log_softmax(-1)
        log_probs = processors(running.tokens[:, :, :length].reshape(batch * beams, length), log_probs)  # type: ignore[arg-type]
        vocabulary = log_probs.shape[-1]
        totals = (log_probs.reshape(batch, beams, -1) + before[:, :, None]).reshape(batch, -1)

        scores, index = torch.topk(totals, candidates)
        parent = index // vocabulary
        ranked = running.take(parent, scores)
        ranked.tokens[:, :, length] = index % vocabulary
        ranked.origins[:, :, length - prompt] = parent + first_row
        ended = criteria(ranked.tokens[:, :, : length + 1].reshape(batch * candidates, -1), None)  # type: ignore[arg-type]
        ended = ended.reshape(batch, candidates)

        still = scores + ended.float() * NEVER
        chosen = torch.topk(still, beams).indices
        running = ranked.take(chosen, still.take_along_dim(chosen, 1))

        entering = ended & may_finish
        final = scores / ((length + 1 - prompt) ** penalty)
        final += full.float() * NEVER + (~hopeful).float() * NEVER
        final += ~entering * NEVER  # has the user's default dtype, as in transformers: -inf in float16
        merged = torch.cat([pool.scores, final], 1)
        best = torch.topk(merged, beams).indices
        both = Beams(torch.cat([pool.tokens, ranked.tokens], 1), merged, torch.cat([pool.origins, ranked.origins], 1))
        pool = both.take(best, merged.take_along_dim(best, 1))
        in_pool = torch.cat([in_pool, entering], 1).take_along_dim(best, 1)

        reach = limit - prompt if stops == "never" and penalty > 0.0 else length + 1 - prompt
        attainable = running.scores[:, :1] / (reach**penalty)
        worst = torch.where(in_pool, pool.scores.min(1, keepdim=True).values, NEVER)
        hopeful = hopeful & (attainable > worst).any(1, keepdim=True)
        if not hopeful.any() or (in_pool.all() and stops is True) or ended.all():
            break
        parents = parent.take_along_dim(chosen, 1).tolist()
        latest = running.tokens[:, :, length].tolist()
        nodes = [
            rows if done else [tree.child(rows[p], t) for p, t in zip(origin, new, strict=True)]
            for tree, rows, origin, new, done in zip(trees, nodes, parents, latest, settled, strict=True)
        ]

    sequences, beam_indices = [], []
    pool_tokens = pool.tokens[:, : config.num_return_sequences, prompt:].flatten(0, 1).tolist()
    pool_origins = pool.origins[:, : config.num_return_sequences].flatten(0, 1).tolist()
    for row_tokens, row_origins in zip(pool_tokens, pool_origins, strict=True):
        steps = len([origin for origin in row_origins if origin >= 0])
        sequences.append(row_tokens[:steps])
        beam_indices.append(row_origins[:steps])
    return SearchResult(sequences, pool.scores[:, : config.num_return_sequences].flatten().tolist(), beam_indices)


def fill_token(request: Request) -> int:
    """What comes after a finished beam: the pad token; a pad id of 0 falls through to EOS, as in transformers."""
    return (request.pad_token or request.stop_tokens[0]) if request.stop_tokens else -1
