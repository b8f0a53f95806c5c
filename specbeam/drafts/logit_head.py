"""From a causal LM's last hidden states to its logits: the head's product, its bias, and what is done after it.

Whoever keeps hidden states instead of logits has to end as the model does. Granite and Cohere scale their logits,
Gemma 2 caps them (Gemma Team 2024, section 2), Phi has a bias: the plain product is another distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from specbeam.engines.families import AFTER_HEAD, AFTER_HEAD_OF, text_config
from specbeam.engines.packing import dense_weight


@dataclass(frozen=True)
class AfterHead:
    """What a model does to the answer of its head: it is scaled, then capped softly to (-cap, cap)."""

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, model: PreTrainedModel) -> AfterHead:
        config = text_config(model)
        scale, cap = 1.0, None
        for name, operation in (AFTER_HEAD | AFTER_HEAD_OF.get(config.model_type, {})).items():
            value = getattr(config, name, None)
            if value is None:
                continue
            if operation == "cap":
                cap = float(value)
            else:
                scale *= value if operation == "times" else 1 / value
        return cls(float(scale), cap)

    def __call__(self, logits: Tensor) -> Tensor:
        if self.scale != 1:
            logits = logits * self.scale
        if self.cap is not None:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


@dataclass(frozen=True)
class LogitHead:
    """How the logits of some tokens come out of the last hidden state.

    `weight` has shape (tokens, hidden size) and `bias` (tokens,).
    """

    weight: Tensor
    bias: Tensor | None = None
    after: AfterHead = AfterHead()

    @classmethod
    def of(cls, model: PreTrainedModel, kept: Tensor | None = None) -> LogitHead:
        """That of `model`, for the tokens `kept` alone and in their order, if they are given."""
        head: Any = model.get_output_embeddings()
        bias = getattr(head, "bias", None)
        bias = None if bias is None else bias.detach()
        weight = dense_weight(head)
        if weight is None:
            weight = _answers_to_unit_vectors(head, bias, model)
        if kept is not None:
            kept = kept.to(weight.device)
            weight, bias = weight[kept], None if bias is None else bias[kept]
        return cls(weight, bias, AfterHead.of(model))

    def __call__(self, states: Tensor) -> Tensor:
        """Logits, shape (..., tokens), of hidden states as the model hands them to its head, (..., hidden size)."""
        bias = None if self.bias is None else self.bias.to(states.dtype)
        return self.after(F.linear(states, self.weight.to(states.dtype), bias))


@torch.no_grad()
def _answers_to_unit_vectors(head: Any, bias: Tensor | None, model: PreTrainedModel) -> Tensor:
    """The weight of a head that keeps it in a form of its own, shape (tokens, hidden size): its product shows it."""
    size = text_config(model).hidden_size
    answers = head(torch.eye(size, dtype=model.dtype, device=model.device))
    return (answers if bias is None else answers - bias).T.contiguous()
