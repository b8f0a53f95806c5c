"""What specbeam needs of transformers' and torch's private parts is there, and means what it meant."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from eagle_target import tiny_target
from fakes import hash_lm
from transformers import GenerationMixin, MambaConfig, MambaForCausalLM

from specbeam import compat
from specbeam.engines.tree_cache import SlotLayer, TreeCache

GONE = "transformers or torch has changed: see specbeam/compat.py for what {} stands in for"


def test_a_config_names_its_attention_function() -> None:
    target = tiny_target()
    assert getattr(target.config, compat.ATTENTION, None) == "sdpa", GONE.format("ATTENTION")
    target.set_attn_implementation("eager")
    assert getattr(target.config, compat.ATTENTION) == "eager", GONE.format("ATTENTION")


def test_layers_say_whether_they_look_attention_up_by_name() -> None:
    assert compat.attention_by_name(tiny_target()) is True, GONE.format("attention_by_name")


def test_an_attention_function_can_be_registered_and_is_called() -> None:
    called: list[int] = []

    def attention(module: Any, query: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        called.append(1)
        return torch.zeros_like(query).transpose(1, 2), None

    compat.register_attention("specbeam_test", attention)
    target = tiny_target()
    setattr(target.config, compat.ATTENTION, "specbeam_test")
    target(torch.tensor([[5, 6]]))
    assert len(called) == target.config.num_hidden_layers, GONE.format("register_attention")


def test_generate_hands_its_loop_over_with_everything_resolved() -> None:
    model: Any = hash_lm(24, 1, [3], 0)
    asked: list[dict[str, Any]] = []

    def loop(model: Any, input_ids: torch.Tensor, **resolved: Any) -> torch.Tensor:
        asked.append(resolved)
        return input_ids

    model.generate(torch.tensor([[1, 2]]), max_new_tokens=4, num_beams=2, **{compat.CUSTOM_LOOP: loop})
    needed = {"logits_processor", "stopping_criteria", "generation_config"}
    assert needed <= asked[0].keys(), GONE.format("CUSTOM_LOOP")
    config = asked[0]["generation_config"]
    assert (config.max_length, config.num_beams, config.eos_token_id) == (6, 2, [3]), GONE.format("CUSTOM_LOOP")


@pytest.mark.parametrize("loop", ["_sample", "_beam_search"])
def test_generate_still_has_the_loops_that_a_drop_in_overrides(loop: str) -> None:
    parameters = inspect.signature(getattr(GenerationMixin, loop)).parameters
    needed = {"input_ids", "logits_processor", "stopping_criteria", "generation_config"}
    assert needed <= parameters.keys(), GONE.format("GenerationLoops")


def test_a_drop_in_is_told_before_each_loop_begins() -> None:
    begun: list[tuple[int, ...]] = []

    class Told(compat.GenerationLoops):
        def begin(self, input_ids: torch.Tensor, **options: Any) -> None:
            begun.append((*input_ids.shape, options["generation_config"].num_beams))
            raise StopIteration

    class Model(Told, type(hash_lm())):  # type: ignore[misc]
        pass

    model: Any = hash_lm(24, 1, [3], 0)
    model.__class__ = Model
    for beams in (1, 3):
        with pytest.raises(StopIteration):
            model.generate(torch.tensor([[1, 2]]), num_beams=beams, max_new_tokens=3, use_cache=False)
    assert begun == [(1, 2, 1), (3, 2, 3)], GONE.format("GenerationLoops")


def test_a_cache_makes_layers_of_the_class_that_it_is_told() -> None:
    cache = TreeCache()
    states = torch.zeros(1, 2, 3, 4)
    cache.update(states, states, 1)
    assert [type(layer) for layer in cache.layers] == [SlotLayer] * 2, GONE.format("CACHE_LAYERS")


def test_recurrent_models_say_that_they_are() -> None:
    mamba = MambaForCausalLM(MambaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=1, state_size=4))
    assert compat.is_recurrent(mamba) and not compat.is_recurrent(tiny_target()), GONE.format("is_recurrent")


def test_a_compiled_module_keeps_the_one_that_it_wraps() -> None:
    target = tiny_target()
    assert compat.uncompiled(torch.compile(target)) is target, GONE.format("uncompiled")
    assert compat.uncompiled(target) is target


def test_a_config_may_hold_the_commit_that_it_came_from() -> None:
    config = tiny_target().config
    assert compat.commit_hash(config) is None
    config._commit_hash = "1234"  # as `from_pretrained` sets it
    assert compat.commit_hash(config) == "1234", GONE.format("commit_hash")


def test_causal_language_models_are_told_from_others() -> None:
    assert compat.is_causal_lm(tiny_target().config), GONE.format("is_causal_lm")
    from transformers import ViTConfig

    assert not compat.is_causal_lm(ViTConfig()), GONE.format("is_causal_lm")


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_a_packed_product_is_the_plain_product() -> None:
    weight, bias, rows = torch.randn(96, 64), torch.randn(96), torch.randn(5, 64)
    packed = compat.packed_linear(rows, compat.packed_weight(weight, 16), bias)
    torch.testing.assert_close(packed, torch.nn.functional.linear(rows, weight, bias), msg=GONE.format("packed_linear"))
