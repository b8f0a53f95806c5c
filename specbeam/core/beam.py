"""Beam search with exactly the semantics of transformers' `GenerationMixin._beam_search`.

Each step ranks all continuations of all running beams, lets finished ones of the first `num_beams` ranks into
the pool of results, and runs on with the best unfinished ones. Tensors are (batch, beams, …). It never knows
where the logits came from, and where processors do nothing but forbid tokens it does not even look at them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from .forbidden import only_forbid, without_forbidden
from .greedy import SearchResult
from .source import Source
from .tree import ROOT, Tops

NEVER = -1.0e9  # the score of what must not win; transformers' value, since float32 rounding makes it visible

# the nodes to ask for, their scores (batch, beams) -> the nodes to ask for, what to add to the rows' scores
Narrow = Callable[[Source, list[list[int]], Tensor], tuple[list[list[int]], Tensor]]


class Ranked(NamedTuple):
    """The best continuations of a step, best first; each of shape (batch, candidates)."""

    scores: Tensor
    parents: Tensor  # the running beams that they continue
    tokens: Tensor


def rank_rows(log_probs: Tensor, scores: Tensor, candidates: int) -> Ranked:
    """Ranks all continuations, from whole rows of shape (batch * beams, vocabulary) and scores (batch, beams)."""
    vocabulary = log_probs.shape[-1]
    totals = log_probs.unflatten(0, scores.shape) + scores[:, :, None]
    best, index = torch.topk(totals.flatten(1), candidates)
    return Ranked(best, index // vocabulary, index % vocabulary)


def rank_tops(tops: Tops, scores: Tensor, candidates: int, vocabulary: int, finished: Tensor) -> Ranked | None:
    """What `rank_rows` gives, from the likeliest tokens of each row alone; None where that is not certain.

    topk puts equal values in an order that depends on all the others. So it is certain if the best `candidates + 1`
    totals differ: what is left out of a row has as many tokens of its own row before it, and so cannot be among the
    best `candidates`. Prompts that have `finished`, a boolean of shape (batch, 1), are ranked somehow.
    """
    beams, known = tops.tokens.shape[1:]
    if known < min(candidates + 1, vocabulary) or beams * known <= candidates:
        return None
    totals = torch.from_numpy(tops.log_probs).to(scores.device) + scores[:, :, None]
    best, index = torch.topk(totals.flatten(1), candidates + 1)
    if not ((best.diff(dim=1) < 0) | finished).all():
        return None
    best, index = best[:, :-1], index[:, :-1]
    tokens = torch.from_numpy(tops.tokens).to(scores.device).flatten(1)
    return Ranked(best, index // known, tokens.take_along_dim(index, 1))


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
    input_ids, beams, candidates = request.input_ids, request.num_beams, request.candidates
    batch, prompt = input_ids.shape
    stops, penalty, limit, device = config.early_stopping, config.length_penalty, config.max_length, input_ids.device

    running = torch.full((batch, beams), NEVER, dtype=torch.float32, device=device)  # scores, as are those of the pool
    pool = running.clone()
    running[:, 0] = 0  # all beams are alike at first: only one may have continuations
    tokens = input_ids.long().repeat_interleave(beams, 0)  # of the running beams, (batch * beams, length)
    # a sequence is known by the place of its end: step * candidates + rank among the candidates; -1 is the prompt
    places, pool_places = torch.full((2, batch, beams), -1, device=device)
    steps: list[Tensor] = []  # of the candidates: the rows that they continue, their tokens, their parents' places
    in_pool = torch.zeros((batch, beams), dtype=torch.bool, device=device)
    hopeful = torch.ones((batch, 1), dtype=torch.bool, device=device)  # might a running beam still enter the pool?
    ranks, prompts = torch.arange(candidates, device=device), torch.arange(batch, device=device)[:, None]
    nodes = [[ROOT] * beams for _ in range(batch)]
    tops_suffice = only_forbid(processors)

    for length in range(prompt, limit):
        full = in_pool.all(1, keepdim=True) & (stops is True)
        # equal scores may change places in topk as long as the loop goes on, whatever the other candidates are
        distinct = (pool.diff(dim=1) < 0).all(1, keepdim=True)
        settled = (full | ~hopeful) & (pool[:, -1:] > NEVER / 10) & distinct
        finished = settled.squeeze(1).tolist()
        asked = [[] if done else rows for rows, done in zip(nodes, finished, strict=True)]
        before = running
        if narrow is not None:
            asked, handicap = narrow(source, asked, before)
            before = before + handicap
        source.step(asked)
        ranked = None
        if tops_suffice:
            tops = without_forbidden(source.tops(asked), processors, length)
            ranked = rank_tops(tops, before, candidates, source.vocabulary, settled)
        if ranked is None:
            log_probs = source.rows(asked).flatten(0, 1).float().to(device).log_softmax(-1)
            log_probs = processors(tokens, log_probs)  # type: ignore[arg-type]
            ranked = rank_rows(log_probs, before, candidates)
        origins = ranked.parents + prompts * beams
        steps.append(torch.stack([origins, ranked.tokens, places.take_along_dim(ranked.parents, 1)]))
        tokens = torch.cat([tokens.index_select(0, origins.flatten()), ranked.tokens.reshape(-1, 1)], 1)
        ended = criteria(tokens, None).reshape(batch, candidates)  # type: ignore[arg-type]

        still = ranked.scores + ended.float() * NEVER
        chosen = torch.topk(still, beams).indices
        running = still.take_along_dim(chosen, 1)
        tokens = tokens.index_select(0, (chosen + prompts * candidates).flatten())
        first_place = (length - prompt) * candidates
        places = first_place + chosen

        entering = ended & (ranks < beams)
        final = ranked.scores / ((length + 1 - prompt) ** penalty)
        final += full.float() * NEVER + (~hopeful).float() * NEVER
        final += ~entering * NEVER  # has the user's default dtype, as in transformers: -inf in float16
        final = final.masked_fill(settled, -torch.inf)  # also where processors made a finished prompt's scores NaN
        merged = torch.cat([pool, final], 1)
        best = torch.topk(merged, beams).indices
        pool = merged.take_along_dim(best, 1)
        both = torch.cat([pool_places, (first_place + ranks).expand(batch, -1)], 1)
        pool_places = both.take_along_dim(best, 1)
        in_pool = torch.cat([in_pool, entering], 1).take_along_dim(best, 1)

        reach = limit - prompt if stops == "never" and penalty > 0.0 else length + 1 - prompt
        attainable = running[:, :1] / (reach**penalty)
        worst = torch.where(in_pool, pool.min(1, keepdim=True).values, NEVER)
        hopeful = hopeful & (attainable > worst).any(1, keepdim=True)
        if not hopeful.any() or (in_pool.all() and stops is True) or ended.all():
            break
        continued, latest, _ = steps[-1].take_along_dim(chosen[None], 2).tolist()
        nodes = [
            rows if done else [tree.child(rows[row % beams], token) for row, token in zip(origin, new, strict=True)]
            for tree, rows, origin, new, done in zip(trees, nodes, continued, latest, finished, strict=True)
        ]

    history = torch.stack(steps).tolist() if steps else []
    ends = [(b, place) for b, row in enumerate(pool_places[:, : config.num_return_sequences].tolist()) for place in row]
    sequences, beam_indices = zip(*[unrolled(history, b, place) for b, place in ends], strict=True)
    return SearchResult([*sequences], pool[:, : config.num_return_sequences].flatten().tolist(), [*beam_indices])


def unrolled(history: list, b: int, place: int) -> tuple[list[int], list[int]]:
    """The tokens of a prompt's sequence that ends at `place`, and the row that each of them continued."""
    tokens, rows = [], []
    while place >= 0:
        step, rank = divmod(place, len(history[0][0][b]))
        row, token, place = [column[b][rank] for column in history[step]]
        tokens.append(token)
        rows.append(row)
    return tokens[::-1], rows[::-1]
