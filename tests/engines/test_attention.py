"""Grouped attention is transformers' attention, and a model is left as it was."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from eagle_target import tiny_target
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from specbeam.engines.attention import NAME, grouped, grouped_attention


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("masked", [False, True])
def test_it_gives_what_transformers_gives(key_heads: int, rows: int, masked: bool) -> None:
    torch.manual_seed(0)
    query = torch.randn(2, rows, 4, 8, dtype=torch.double).transpose(1, 2)
    key, value = torch.randn(2, 2, key_heads, 11, 8, dtype=torch.double)
    mask = None
    if masked:
        seen = torch.rand(2, 1, rows, 11) < 0.6
        seen[..., 0] = True
        mask = torch.zeros(seen.shape, dtype=torch.double).masked_fill(~seen, -torch.inf)
    module = SimpleNamespace(num_key_value_groups=4 // key_heads, is_causal=True, training=False)
    wanted, _ = sdpa_attention_forward(module, query, key, value, mask, scaling=0.3)  # type: ignore[arg-type]
    got, _ = grouped_attention(module, query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(got, wanted)


def test_one_mask_may_serve_all_prompts() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4, 5, 8), torch.randn(3, 2, 11, 8), torch.randn(3, 2, 11, 8)
    mask = torch.ones(1, 1, 5, 11, dtype=torch.bool).tril(6)
    module = SimpleNamespace(num_key_value_groups=2, is_causal=True, training=False)
    wanted, _ = sdpa_attention_forward(module, query, key, value, mask)  # type: ignore[arg-type]
    torch.testing.assert_close(grouped_attention(module, query, key, value, mask)[0], wanted)


def test_a_model_uses_it_within_the_block_only_even_if_the_block_fails() -> None:
    target = tiny_target()
    before = target.config._attn_implementation
    assert before == "sdpa"
    with pytest.raises(RuntimeError), grouped(target):
        assert target.config._attn_implementation == NAME
        raise RuntimeError
    assert target.config._attn_implementation == before


def test_a_model_with_another_attention_keeps_it() -> None:
    target = tiny_target()
    target.set_attn_implementation("eager")
    with grouped(target):
        assert target.config._attn_implementation == "eager"


def test_a_model_that_is_set_to_it_generates_the_same() -> None:
    target = tiny_target()
    prompt = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    options = {"max_new_tokens": 12, "do_sample": False, "num_beams": 3}
    wanted = target.generate(prompt, **options)
    target.set_attn_implementation(NAME)
    assert target.generate(prompt, **options).tolist() == wanted.tolist()
