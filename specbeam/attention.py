"""Attention for a few rows over many slots, where several query heads share a key head (grouped-query attention).

transformers copies the keys and values for every query head of a group before it calls PyTorch's kernel. Here the
heads of a group become more rows of one head instead: the same products, and nothing is copied. A tree pass over
a long context spends much of its time on those copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

NAME = "specbeam_grouped"


def grouped_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers' `sdpa_attention_forward` returns, shape (batch, rows, heads, head dim).

    query has shape (batch, heads, rows, head dim), key and value (batch, key heads, slots, head dim), and
    attention_mask is additive or boolean, (batch or 1, 1, rows, slots). Without a mask, several rows are a prompt and
    handed on to transformers.
    """
    batch, heads, rows, dim = query.shape
    groups = key.shape[1]
    if heads == groups or (attention_mask is None and rows > 1):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    shared = heads // groups
    mask = None
    if attention_mask is not None:
        mask = attention_mask[:, :, None, :, : key.shape[2]]
        mask = mask.expand(-1, -1, shared, -1, -1).flatten(2, 3)
    answer = torch.nn.functional.scaled_dot_product_attention(
        query.reshape(batch, groups, shared * rows, dim), key, value, attn_mask=mask, scale=scaling
    )
    return answer.view(batch, heads, rows, dim).transpose(1, 2), None


@contextmanager
def grouped(model: PreTrainedModel) -> Iterator[None]:
    """Within, `model` uses `grouped_attention` if it would use PyTorch's kernel on a CPU; it is left as it was."""
    config: Any = model.config
    if config._attn_implementation != "sdpa" or model.device.type != "cpu":
        yield
        return
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = "sdpa"


AttentionInterface.register(NAME, grouped_attention)
AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
