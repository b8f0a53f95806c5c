"""A feature draft run over whole texts at several depths of guessing, for training and for measuring it.

One call gives what the draft would propose at every position if the last 0, 1, 2, … tokens were its own guesses (Li
et al. 2025, EAGLE-3, "training-time test", section 3.2). `EagleDraft` does the same in a tree, node by node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from specbeam.drafts.eagle_model import EagleModel

DEPTHS = 4  # how many guesses in a row are trained


def unroll(model: EagleModel, states: Tensor, tokens: Tensor, depths: int) -> Iterator[Tensor]:
    """Outputs of the draft at every depth of guessing, each of shape (batch, length - 1, hidden size).

    states (batch, length, layers, hidden size) and tokens (batch, length) are a shard's. At depth 1 the input at
    position t is the target's state at t - 1 and the token at t. At depth d it is the draft's own output of depth
    d - 1 at t - 1, and position t attends to what a decoder would have: keys of depth 1 up to t - d + 1, then one of
    each further depth. Row i of an output belongs to position i + 1; rows before d - 1 are meaningless.
    """
    state = model.fused(states[:, :-1])
    tokens = tokens[:, 1:]
    batch, length = tokens.shape
    positions = torch.arange(1, length + 1, device=tokens.device)[None].expand(batch, -1)
    groups, dim = model.config.key_heads, model.config.head_dim
    distance = positions[0, :, None] - positions[:1]  # from query back to key
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for depth in range(depths):
        inputs = model.joined(state, tokens)
        query, key, value = model.project(inputs, positions)
        keys.append(key)
        values.append(value)
        if depth == 0:
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        else:
            query = query.unflatten(1, (groups, -1)) / math.sqrt(dim)  # (batch, key heads, shared, length, dim)
            scores = query @ keys[0][:, :, None].transpose(-1, -2)
            scores = [scores.float().masked_fill(distance < depth, -torch.inf)]
            later = [_shift(key, depth - 1 - i)[:, :, None] for i, key in enumerate(keys[1:])]
            scores += [(query * key).float().sum(-1, keepdim=True) for key in later]
            weights = torch.cat(scores, -1).softmax(-1).to(value.dtype)
            attended = weights[..., :length] @ values[0][:, :, None]
            for i, value in enumerate(values[1:]):
                attended = attended + weights[..., length + i, None] * _shift(value, depth - 1 - i)[:, :, None]
            attended = attended.flatten(1, 2)
        output = model.finish(inputs, attended)
        yield output
        state = _shift(output, 1)


def _shift(rows: Tensor, by: int) -> Tensor:
    """Rows moved `by` positions along the last dimension but one; copies of the first row fill the gap."""
    if by == 0:
        return rows
    return torch.cat([rows[..., :1, :].expand(*rows.shape[:-2], by, -1), rows[..., :-by, :]], -2)
