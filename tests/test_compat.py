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


@pytest.mark.parametrize("loop", ["_sample", "_beam_search"])
def test_generate_still_has_the_loops_that_a_drop_in_overrides(loop: str) -> None:
    parameters = inspect.signature(getattr(GenerationMixin, loop)).parameters
    needed = {"input_ids", "logits_processor", "stopping_criteria", "generation_config"}
    assert needed <= parameters.keys(), GONE.format("GenerationLoops")


def test_generate_calls_the_loops_of_a_subclass_with_everything_resolved() -> None:
    asked: list[dict[str, Any]] = []

    class Stopped(compat.GenerationLoops):
        def run_loop(self, loop: Any, input_ids: torch.Tensor, **options: Any) -> torch.Tensor:
            assert callable(loop)
            asked.append({"shape": (*input_ids.shape,), **options})
            return input_ids

    class Model(Stopped, type(hash_lm())):  # type: ignore[misc]
        pass

    model: Any = hash_lm(24, 1, [3], 0)
    model.__class__ = Model
    for beams in (1, 3):
        model.generate(torch.tensor([[1, 2]]), num_beams=beams, max_new_tokens=4, use_cache=False)
    assert [one["shape"] for one in asked] == [(1, 2), (3, 2)], GONE.format("GenerationLoops")
    needed = {"logits_processor", "stopping_criteria", "generation_config"}
    assert needed <= asked[0].keys(), GONE.format("GenerationLoops")
    config = asked[1]["generation_config"]
    assert (config.max_length, config.num_beams, config.eos_token_id) == (6, 3, [3]), GONE.format("GenerationLoops")


def test_guidance_calls_the_target_and_not_the_loop_around_it() -> None:
    class Guided(compat.GenerationLoops):
        run_loop = None  # type: ignore[assignment]

    class Model(Guided, type(hash_lm())):  # type: ignore[misc]
        pass

    model: Any = hash_lm(24, 1, [3], 0)
    model.__class__, model.target, model.use_cache = Model, None, False
    config = model.generation_config
    config.guidance_scale, config.do_sample = 2.0, False
    (processor,) = model._get_logits_processor(config)
    assert processor.model is None, GONE.format("_get_logits_processor")
    assert processor.unconditional_context["use_cache"] is False, GONE.format("_get_logits_processor")


def test_a_target_keeps_what_its_class_does_its_own_way_within_generate() -> None:
    target = tiny_target()
    assert compat.own_helpers(target) == {}, GONE.format("own_helpers")

    class Own(type(target)):  # type: ignore[misc]
        def _prepare_position_ids_for_generation(self, *arguments: Any) -> str:
            return "own"

    target.__class__ = Own
    helpers = compat.own_helpers(target)
    assert [name for name in helpers] == ["_prepare_position_ids_for_generation"], GONE.format("own_helpers")
    assert helpers["_prepare_position_ids_for_generation"]() == "own"


def test_the_inputs_that_only_a_prompt_needs_are_named() -> None:
    assert {"pixel_values", "input_features"} <= compat.PREFILL_ONLY, GONE.format("PREFILL_ONLY")


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
