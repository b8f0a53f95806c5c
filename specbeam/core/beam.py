"""Beam search with exactly the semantics of transformers' `GenerationMixin._beam_search`.

Each step ranks all continuations of all running beams, lets finished ones of the first `num_beams` ranks into
the pool of results, and runs on with the best unfinished ones. Tensors are (batch, beams, …). It never knows
where the logits came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from specbeam.decoding.relaxed import droppable_rows

from .autoregressive import Autoregressive
from .greedy import Found, pad_value
from .tree import ROOT, TokenTree

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


def beam_search(
    source: Autoregressive,
    trees: list[TokenTree],
    input_ids: Tensor,
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    config: GenerationConfig,
    margin: float | None = None,
) -> Found:
    """Decode every prompt with `config.num_beams` beams; returns `num_return_sequences` results a prompt, best first.

    `input_ids` are the left-padded prompts, shape (batch, prompt length). With a `margin` running sequences that look
    hopeless are dropped rather than verified (`relaxed.py`); the result is then not transformers' any more.
    """
    batch, prompt = input_ids.shape
    beams, limit = config.num_beams, config.max_length
    stops, penalty, device = config.early_stopping, config.length_penalty, input_ids.device
    num_eos = 0 if config._eos_token_tensor is None else len(config._eos_token_tensor)
    candidates = max(2, 1 + num_eos) * beams

    tokens = torch.full((batch, beams, limit), fill_value(config), dtype=torch.long, device=device)
    tokens[:, :, :prompt] = input_ids[:, None]
    origins = torch.full((batch, beams, limit - prompt), -1, dtype=torch.int32, device=device)
    start = torch.full((batch, beams), NEVER, device=device)
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
        dropped = torch.zeros((batch, beams, 1), device=device)
        if margin is not None:
            asked = _narrowed(source, asked, running.scores, margin, dropped)
        logits = source.logits(asked)
        log_probs = logits.reshape(batch * beams, -1).float().to(device).log_softmax(-1)
        log_probs = processors(running.tokens[:, :, :length].reshape(batch * beams, length), log_probs)  # type: ignore[arg-type]
        vocabulary = log_probs.shape[-1]
        totals = (log_probs.reshape(batch, beams, -1) + running.scores[:, :, None] + dropped).reshape(batch, -1)

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
        final = final + full.float() * NEVER + (~hopeful).float() * NEVER + (~entering).float() * NEVER
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

    returned = config.num_return_sequences
    pool_origins, pool_tokens = (
        pool.origins[:, :returned].tolist(),
        pool.tokens[:, :returned, prompt:].tolist(),
    )
    sequences, beam_indices = [], []
    for row_tokens, row_origins in zip(chain(*pool_tokens), chain(*pool_origins), strict=True):
        steps = sum(origin >= 0 for origin in row_origins)
        sequences.append(row_tokens[:steps])
        beam_indices.append(row_origins[:steps])
    return Found(sequences, pool.scores[:, :returned].flatten().tolist(), beam_indices)


def _narrowed(
    source: Autoregressive, asked: list[list[int]], scores: Tensor, margin: float, dropped: Tensor
) -> list[list[int]]:
    """The nodes to ask for if some rows can be done without; what is asked for in their place is marked in `dropped`.

    Only a step that then needs no pass at all is narrowed: a pass serves the weak rows for next to nothing.
    """
    options = {"margin": margin, "num_beams": scores.shape[1], "stop_tokens": source.stop_tokens}
    rows = [droppable_rows(t, n, s, **options) for t, n, s in zip(source.trees, asked, scores.tolist(), strict=True)]
    if any(one is None for one in rows) or not any(rows):
        return asked
    source.stats.relaxed_steps += 1
    narrowed = []
    for b, (nodes, without) in enumerate(zip(asked, rows, strict=True)):
        assert without is not None
        dropped[b, without] = NEVER
        standing = [node for row, node in enumerate(nodes) if row not in without]
        narrowed.append([standing[0] if row in without else node for row, node in enumerate(nodes)])
    return narrowed


def fill_value(config: GenerationConfig) -> int:
    """What stands after a finished beam: the pad token; a pad id of 0 falls through to EOS, as in transformers."""
    eos = config._eos_token_tensor
    return -1 if eos is None else pad_value(config) or int(eos[0])
