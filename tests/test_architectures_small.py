"""Equality with `generate` on tiny random models of real architectures, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import specbeam as sb
from specbeam.models import Pair

SIZES: dict[str, dict[str, Any]] = {
    name: {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    for name in ("llama", "gpt_neox", "qwen2", "qwen3", "mistral", "opt", "phi", "gemma3_text")
}
SIZES["gpt2"] = {"n_embd": 32, "n_layer": 2, "n_head": 4}
SIZES["llama"] |= {"num_key_value_heads": 2}
SIZES["qwen2"] |= {"num_key_value_heads": 2}
SIZES["qwen3"] |= {"num_key_value_heads": 2, "head_dim": 8}
SIZES["mistral"] |= {"num_key_value_heads": 2, "sliding_window": 6}
SIZES["gemma3_text"] |= {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 6}
SIZES["gemma3_text"] |= {"layer_types": ["sliding_attention", "full_attention"]}
SIZES["phi"] |= {"num_key_value_heads": 4}
SIZES["opt"] |= {"ffn_dim": 48, "word_embed_proj_dim": 32}


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=96, eos_token_id=3, bos_token_id=1, pad_token_id=0, initializer_range=0.3, **SIZES[kind]
    )
    return AutoModelForCausalLM.from_config(config).double().eval()


@pytest.mark.parametrize("kind", sorted(SIZES))
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("beams", [1, 4])
def test_tree_decoding_equals_generate(kind: str, batch: int, beams: int) -> None:
    target = tiny(kind)
    generator = torch.Generator().manual_seed(batch)
    ids = torch.randint(4, 96, (batch, 11), generator=generator)
    mask = torch.ones_like(ids)
    for b in range(1, batch):
        mask[b, : 2 * b] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    options: dict[str, Any] = {"max_new_tokens": 20, "num_beams": beams}
    expected = target.generate(**inputs, **options, do_sample=False)
    drafts = [sb.RecallDraft(), sb.ModelDraft(target)]
    for draft in drafts:
        pair = Pair(target=target, draft=draft, tokenizer=None, name=kind, revisions={})  # type: ignore[arg-type]
        decode = sb.speculative_beam if beams > 1 else sb.speculative
        decoded = decode(pair, inputs, num_assistant_tokens=12, **options)
        for sequence, row in zip(decoded.sequences, expected[:, 11:].tolist(), strict=True):
            assert sequence == row[: len(sequence)]
            assert set(row[len(sequence) :]) <= {0, 3}
        if isinstance(draft, sb.ModelDraft):
            assert decoded.stats.target_passes < decoded.stats.steps  # a draft that is the target foresees much
