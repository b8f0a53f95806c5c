"""Attention for a few rows over many slots, where several query heads share a key head (grouped-query attention).

transformers copies the keys and values for every query head of a group before it calls PyTorch's kernel. Here the
heads of a group become more rows of one head instead: the same products, and nothing is copied. A tree pass over
a long context spends much of its time on those copies.

Beside it, what makes the attention of ALiBi models follow positions instead of slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from specbeam.compat import register_attention

GROUPED = "specbeam_grouped"  # the name that transformers knows it by


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
def alibi_by_position(model: PreTrainedModel, allowed: Tensor, positions: Tensor) -> Iterator[None]:
    """Within, the layers of an ALiBi model see what is `allowed`, with biases by the `positions` of the slots.

    Such a model derives its biases from a 2-D mask, so it has to be given one: ones for all slots, (batch, slots).
    Its bias and mask then hold, in the row of the last token, what it adds at position 0, 1, 2, …; these values are
    put where the positions are, and the mask of the tree on top.

    allowed is boolean, (batch, 1, rows, slots); positions (batch, slots), every one less than the number of slots.
    """
    batch, slots = positions.shape

    def rearranged(module: Any, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        nonlocal allowed, positions
        mask, alibi = options["attention_mask"], options["alibi"]
        allowed, positions = allowed.to(mask.device), positions.to(mask.device)
        added = mask[:, :, -1:].expand(batch, -1, -1, -1)
        places = positions[:, None, None].expand(-1, added.shape[1], -1, -1)
        mask = added.gather(-1, places).expand(-1, -1, allowed.shape[2], -1)
        mask = mask.masked_fill(~allowed, torch.finfo(mask.dtype).min)
        # Bloom hands (batch * heads, 1, slots) around, Falcon (batch, heads, 1, slots)
        by_head = alibi.view(batch, -1, 1, slots)
        places = positions[:, None, None].expand_as(by_head)
        alibi = by_head.gather(-1, places).reshape(alibi.shape)
        return args, {**options, "attention_mask": mask, "alibi": alibi}

    layers: Any = model.base_model
    hooks = [layer.register_forward_pre_hook(rearranged, with_kwargs=True) for layer in layers.h]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


register_attention(GROUPED, grouped_attention)
