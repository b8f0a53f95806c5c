"""A tiny random Llama with two prompts, for what reads its hidden states."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

PROMPTS = [[5, 6, 7, 8, 9], [11, 12]]


IDS = torch.tensor([PROMPTS[0], [0, 0, 0, *PROMPTS[1]]])


MASK = torch.tensor([[1] * 5, [0, 0, 0, 1, 1]])


KEPT = torch.arange(0, 96, 2)  # half of the vocabulary


def tiny_target() -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        **{"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "intermediate_size": 48, "initializer_range": 0.3},
        **{"eos_token_id": 3, "bos_token_id": 1, "pad_token_id": 0},
    )
    return AutoModelForCausalLM.from_config(config).double().eval()
