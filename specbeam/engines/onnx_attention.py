"""Attention and cache of an exported pass: the past is an argument, and what is new is returned beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.cache_utils import Cache

from specbeam.compat import register_attention

EXPORTED = "specbeam_exported"  # `exported_attention`, by the name that transformers knows it by


class PastLayer:
    """Keys and values of one layer: the past is given, the new ones are kept."""

    is_compileable = is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor):
        self.past, self.new = (keys, values), (keys, values)


class Past(Cache):
    """The cache that an exported pass is given.

    Args:
        apart: whether attention is `exported_attention`, which reads the past itself.
    """

    def __init__(self, past: list[Tensor], shapes: list[tuple[int, int]], apart: bool):
        heads = [count for count, _ in shapes]
        past = past if apart else [by_head(*each) for each in zip(past, heads, strict=True)]
        self.layers: Any = [PastLayer(*pair) for pair in zip(past[::2], past[1::2], strict=True)]
        self.layer_class_to_replicate, self.offloading, self._apart = None, False, apart

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        layer = self.layers[layer_idx]
        layer.new = key_states, value_states
        if self._apart:
            _LATEST[:] = layer.past
            return layer.new
        return tuple(torch.cat(pair, 2) for pair in zip(layer.past, layer.new, strict=True))

    def get_seq_length(self, layer_idx: int = 0) -> Any:
        return self.layers[0].past[0].shape[1 if self._apart else 2]

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> Any:
        rows = query_length if isinstance(query_length, int) else query_length.shape[0]
        return self.get_seq_length() + rows, 0


_LATEST: list[Tensor] = []  # the past of the layer that was updated last, during an export


def by_token(heads: Tensor) -> Tensor:
    """(batch, heads, tokens, head dim) -> (batch, tokens, heads * head dim), which is how a linear layer gives them."""
    return heads.transpose(1, 2).flatten(2)


def by_head(tokens: Tensor, heads: int) -> Tensor:
    """The way back from `by_token`."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


@torch.library.custom_op("specbeam::tree_attention", mutates_args=())
def tree_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    past_keys: Tensor,
    past_values: Tensor,
    heads: int,
    key_heads: int,
    scale: float,
) -> Tensor:
    """Attention over the past and the new tokens: one operator of the graph.

    All are `by_token`, and so is the answer; the mask is added, (batch, 1, rows, slots + rows).
    """
    keys, values = (by_head(torch.cat(pair, 1), key_heads) for pair in ((past_keys, key), (past_values, value)))
    query = by_head(query, heads)
    return by_token(F.scaled_dot_product_attention(query, keys, values, mask, scale=scale, enable_gqa=True))


@tree_attention.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    past_k: Tensor,
    past_v: Tensor,
    heads: int,
    key_heads: int,
    scale: float,
) -> Tensor:
    return query.new_empty(*query.shape[:2], value.shape[2] // key_heads * heads)


def exported_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """`tree_attention` as transformers calls an attention function; the answer is (batch, rows, heads, head dim)."""
    scale, heads = query.shape[3] ** -0.5 if scaling is None else float(scaling), query.shape[1]
    new = (by_token(each) for each in (query, key, value))
    found = tree_attention(*new, attention_mask, *_LATEST, heads, key.shape[1], scale)
    return found.unflatten(2, (heads, -1)), None


register_attention(EXPORTED, exported_attention)
