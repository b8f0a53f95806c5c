"""EagleModel: a draft of one decoder layer that goes on from what the target had in mind.

After the paper of EAGLE (Li et al. 2024, section 4) and EAGLE-3 (Li et al. 2025, section 3): the input at a token is
the target's hidden states at the token *before* it, from several layers, together with the token's embedding. The
output stands for the target's hidden state at the token itself, so a guess can be continued from: where the target
has not spoken yet, the layer's own output takes the place of the target's states.

    states of the target at t-1 ─ fuse ─┐
                                        ├─ join ─ one decoder layer ─ output at t ─ norm, head ─ what follows t
    embedding of the token at t ────────┘                    └─ in place of the states at t, one guess further

The embedding and the head are the target's own and are not stored. The head keeps the rows of the most frequent
tokens only: it is most of a small draft's cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from .logit_head import LogitHead


@dataclass(frozen=True)
class EagleConfig:
    """The shape of an EAGLE draft. It follows from the target where `for_target` makes it."""

    hidden_size: int
    heads: int
    key_heads: int
    head_dim: int
    intermediate_size: int
    layers: tuple[
        int, ...
    ]  # hidden states of the target that are read; 0 is the embedding, the last what the head reads
    rope_theta: float = 10000.0
    eps: float = 1e-5

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EagleConfig:
        return cls(**{**values, "layers": tuple(values["layers"])})

    @classmethod
    def for_target(cls, target: PreTrainedModel) -> EagleConfig:
        config: Any = target.config.get_text_config()
        heads = config.num_attention_heads
        depth = config.num_hidden_layers
        return cls(
            hidden_size=config.hidden_size,
            heads=heads,
            key_heads=getattr(config, "num_key_value_heads", None) or heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            intermediate_size=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
            layers=tuple(sorted({max(depth // 3, 1), max(2 * depth // 3, 1), depth})),
            rope_theta=float((getattr(config, "rope_parameters", None) or {}).get("rope_theta", 10000.0)),
        )


class EagleModel(nn.Module):
    """The trained part of an EAGLE draft, with the target's embedding and head rows beside it.

    Args:
        config: its shape.
        embedding: the target's input embedding, weight of shape (vocabulary, hidden size).
        head: the target's own head for these tokens, weight of shape (kept tokens, hidden size).
        kept: the tokens that these rows stand for, shape (kept tokens,).
    """

    def __init__(self, config: EagleConfig, embedding: Tensor, head: LogitHead, kept: Tensor):
        super().__init__()
        self.config = config
        size, heads, dim = config.hidden_size, config.heads, config.head_dim
        self.fuse = nn.Linear(len(config.layers) * size, size, bias=False)
        self.join = nn.Linear(2 * size, size, bias=False)
        self.qkv = nn.Linear(size, (heads + 2 * config.key_heads) * dim, bias=False)
        self.out = nn.Linear(heads * dim, size, bias=False)
        self.gate_up = nn.Linear(size, 2 * config.intermediate_size, bias=False)
        self.down = nn.Linear(config.intermediate_size, size, bias=False)
        self.embedding_norm, self.state_norm, self.attention_norm, self.mlp_norm, self.head_norm = (
            nn.Parameter(torch.ones(size)) for _ in range(5)
        )
        # the target's own: neither trained nor stored
        self.embedding, self.kept = embedding, kept
        self.head = nn.Linear(size, len(kept), bias=head.bias is not None, device="meta")
        self.head.weight = nn.Parameter(head.weight, requires_grad=False)
        if head.bias is not None:
            self.head.bias = nn.Parameter(head.bias, requires_grad=False)
        self.after_head = head.after
        self.rates: Tensor
        rates = config.rope_theta ** (-torch.arange(0, dim, 2).float() / dim)
        self.register_buffer("rates", rates, persistent=False)

    def trained(self) -> dict[str, Tensor]:
        """What training changed, by name: all that has to be stored of the weights."""
        return {name: weight for name, weight in self.named_parameters() if not name.startswith("head.")}

    def fused(self, states: Tensor) -> Tensor:
        """The target's hidden states, shape (..., layers, hidden size), as one state, shape (..., hidden size)."""
        plain = F.rms_norm(states.to(self.embedding_norm.dtype), states.shape[-1:], eps=self.config.eps)
        return self.fuse(plain.flatten(-2))

    def joined(self, state: Tensor, tokens: Tensor) -> Tensor:
        """The layer's input: the state before each token and the token, shape (..., hidden size)."""
        embedded = F.embedding(tokens, self.embedding).to(state.dtype)
        return self.join(torch.cat([self._norm(embedded, "embedding"), self._norm(state, "state")], -1))

    def project(self, inputs: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of inputs (batch, rows, hidden size), each (batch, heads, rows, head dim), turned."""
        heads, keys, dim = self.config.heads, self.config.key_heads, self.config.head_dim
        mixed = self.qkv(self._norm(inputs, "attention")).unflatten(-1, (-1, dim)).transpose(1, 2)
        angles = positions[:, None, :, None] * self.rates
        turned = _turn(mixed[:, : heads + keys], angles.cos().to(mixed.dtype), angles.sin().to(mixed.dtype))
        return turned[:, :heads], turned[:, heads:], mixed[:, heads + keys :]

    def finish(self, inputs: Tensor, attended: Tensor) -> Tensor:
        """The layer's output from its input and the attention's answer (batch, heads, rows, head dim)."""
        hidden = inputs + self.out(attended.transpose(1, 2).flatten(-2))
        gate, up = self.gate_up(self._norm(hidden, "mlp")).chunk(2, -1)
        return hidden + self.down(F.silu(gate) * up)

    def logits(self, output: Tensor) -> Tensor:
        """Logits of the kept tokens, shape (..., kept tokens)."""
        return self.target_logits(self._norm(output, "head"))

    def target_logits(self, states: Tensor) -> Tensor:
        """The target's logits of the kept tokens, from its last hidden states (..., hidden size)."""
        return self.after_head(self.head(states.to(self.head.weight.dtype)))

    def _norm(self, states: Tensor, name: str) -> Tensor:
        weight = getattr(self, f"{name}_norm").to(states.dtype)
        return F.rms_norm(states, states.shape[-1:], weight, self.config.eps)


def _turn(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021), the halves paired as Llama does."""
    first, second = states.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
