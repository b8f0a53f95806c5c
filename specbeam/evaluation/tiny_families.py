"""Families of causal LMs in transformers, each with the configuration of a tiny random model.

Equality with `generate` is checked on these (`family_cases.py`). Their model types are `engines.families.TESTED`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

VOCABULARY, PAD, EOS = 96, 0, 3
WINDOW = 6  # size of the sliding windows, in positions

_SIZE: dict[str, Any] = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    **{"num_key_value_heads": 2, "max_position_embeddings": 64, "vocab_size": VOCABULARY},
    # with the usual deviation of 0.02 a random model repeats one token; with 0.3 its output varies
    **{"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": EOS, "initializer_range": 0.3},
}
_HEAD: dict[str, Any] = {"head_dim": 8}
_SLIDING: dict[str, Any] = {"sliding_window": WINDOW}
_MIXED: dict[str, Any] = {**_SLIDING, "layer_types": ["sliding_attention", "full_attention"]}
_EXPERTS: dict[str, Any] = {
    **{"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
    **{"shared_expert_intermediate_size": 24, "decoder_sparse_step": 1},
}
_LATENT: dict[str, Any] = {
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8},
    **{"num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    **_EXPERTS,
}
_STATE: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_chunk_size": 8}
_LINEAR: dict[str, Any] = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
}


@dataclass(frozen=True)
class Family:
    """A family: transformers' `model_type`, how its models encode positions, and its tiny model's configuration."""

    kind: str
    positions: str = "rotary"
    options: Mapping[str, Any] = field(default_factory=dict)  # beside `_SIZE`
    variant: str = ""  # tells families of one kind apart

    @property
    def name(self) -> str:
        return f"{self.kind} ({self.variant})" if self.variant else self.kind


def _alike(kinds: str, positions: str = "rotary", **options: Any) -> list[Family]:
    """Families, as words, that encode positions alike and whose tiny models have the same options."""
    return [Family(kind, positions, options) for kind in kinds.split()]


_OVER_TREES = (
    *_alike("llama gpt_neox falcon phi qwen2 olmo olmo2 stablelm nemotron arcee apertus nanochat ernie4_5 bitnet"),
    *_alike("persimmon diffllama"),
    *_alike("qwen3 gemma glm glm4 helium seed_oss hunyuan_v1_dense", **_HEAD),
    *_alike("mistral phi3 starcoder2", **_SLIDING),
    Family("qwen2", options={**_SLIDING, "use_sliding_window": True, "max_window_layers": 1}, variant="window"),
    *_alike("gemma3_text vaultgemma cwm", **_HEAD, **_MIXED),
    *_alike("gemma2", **_HEAD, **_MIXED, final_logit_softcapping=5.0),
    *_alike("olmo3", **_MIXED),
    *_alike("exaone4", "rotary, none in full layers", **_MIXED),
    *_alike("cohere2", "rotary, none in full layers", **_MIXED, logit_scale=0.5),
    *_alike("smollm3", "rotary, none in some layers", no_rope_layers=[1, 0]),
    *_alike("cohere", logit_scale=0.5),
    *_alike("granite hyperclovax", logits_scaling=2.0),
    *_alike("granite_swa", **_SLIDING, logits_scaling=2.0),
    *_alike("gptj codegen", rotary_dim=4),
    *_alike("gpt2 gpt_bigcode", "learned"),
    *_alike("biogpt", "learned, from 2"),
    *_alike("opt", "learned, from 2", ffn_dim=48, word_embed_proj_dim=32),
    *_alike("ctrl", "sinusoidal", dff=48),
    *_alike("bloom", "ALiBi"),
    Family("falcon", "ALiBi", {"alibi": True}, "ALiBi"),
    *_alike("qwen2_moe olmoe phimoe", **_EXPERTS),
    *_alike("mixtral", **_SLIDING, **_EXPERTS),
    *_alike("qwen3_moe", **_HEAD, **_EXPERTS),
    *_alike("gpt_oss", **_HEAD, **_MIXED, **_EXPERTS),
    *_alike("granitemoe", **_EXPERTS, logits_scaling=2.0),
    *_alike("deepseek_v2 deepseek_v3 minicpm3", **_LATENT),
)
_BY_SEQUENCES = (  # these cannot verify a tree in one pass
    *_alike("mpt", "ALiBi", d_model=32, n_heads=4, n_layers=2, max_seq_len=64),
    *_alike("gpt_neo", "learned", attention_types=[[["global", "local"], 1]], num_layers=2, window_size=6),
    *_alike("openai-gpt", "learned"),
    *_alike("llama4_text", attention_chunk_size=WINDOW, intermediate_size_mlp=48, **_EXPERTS),
    *_alike("lfm2", layer_types=["conv", "full_attention"]),
    *_alike("mamba falcon_mamba xlstm", "none"),
    *_alike("mamba2", "none", num_heads=8, head_dim=8, state_size=8, n_groups=2, chunk_size=8),
    *_alike("rwkv", "none", attention_hidden_size=32),
    *_alike("recurrent_gemma", lru_width=32, attention_window_size=WINDOW, num_hidden_layers=3),
    *_alike("jamba", "none", attn_layer_period=2, attn_layer_offset=1, **_EXPERTS),
    *_alike("bamba", attn_layer_indices=[1], **_STATE),
    *_alike("falcon_h1", mamba_d_ssm=64, **_STATE),
    *_alike("granitemoehybrid", "none", layer_types=["mamba", "attention"], **_STATE, **_EXPERTS),
    *_alike("qwen3_next", layer_types=["linear_attention", "full_attention"], **_LINEAR, **_HEAD, **_EXPERTS),
)
FAMILIES = (*_OVER_TREES, *_BY_SEQUENCES)


def named(name: str) -> Family:
    """The family of this name: its kind, with the variant in brackets where there are several."""
    return next(each for each in FAMILIES if each.name == name)


def tiny_model(family: Family | str, attention: str = "eager", dtype: torch.dtype = torch.float64) -> Any:
    """A random model of `family` (or of the family of that name) with two or three layers, the same at every call.

    Raises ValueError where transformers does not implement this attention for the family.
    """
    if isinstance(family, str):
        family = named(family)
    config = AutoConfig.for_model(family.kind, **{**_SIZE, **family.options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # the grouped matrix products of experts do not support float64
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, experts_implementation="eager")
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = PAD, EOS
    return model.to(dtype).eval().requires_grad_(False)
