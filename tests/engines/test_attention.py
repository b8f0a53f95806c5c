"""Grouped attention is transformers' attention, and a model is left as it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from eagle_target import tiny_target
from scoring import scorer_over
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from specbeam.core.tree import TokenTree
from specbeam.engines.attention import GROUPED, grouped_attention


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


def attention_in_a_pass(target: Any) -> str:
    """The attention function that the layers look up during a pass of the engine."""
    used: list[str] = []
    layer = target.model.layers[0].self_attn
    hook = layer.register_forward_pre_hook(lambda module, _: used.append(module.config._attn_implementation))
    tree = TokenTree([5, 6, 7])
    scorer_over(target, [tree], torch.tensor([tree.prompt]), torch.ones(1, 3, dtype=torch.long))
    hook.remove()
    return used[0]


def test_a_model_uses_it_within_a_pass_only_even_if_the_pass_fails() -> None:
    target = tiny_target()
    assert attention_in_a_pass(target) == GROUPED and target.config._attn_implementation == "sdpa"
    target.model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        attention_in_a_pass(target)
    assert target.config._attn_implementation == "sdpa"


def test_a_model_with_another_attention_keeps_it() -> None:
    target = tiny_target()
    target.set_attn_implementation("eager")
    assert attention_in_a_pass(target) == "eager" == target.config._attn_implementation


def test_a_model_that_is_set_to_it_generates_the_same() -> None:
    target = tiny_target()
    prompt = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    options = {"max_new_tokens": 12, "do_sample": False, "num_beams": 3}
    wanted = target.generate(prompt, **options)
    target.set_attn_implementation(GROUPED)
    assert target.generate(prompt, **options).tolist() == wanted.tolist()
