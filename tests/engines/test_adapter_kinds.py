"""Adapters of PEFT: those that act within the layers are decoded over trees, the others are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from peft_models import INPUTS, generated, needs_peft, randomised, with_lora
from tiny_models import tiny_llama

import specbeam as sb
from specbeam.engines.wrappers import has_adapters, held, unwrapped

peft = needs_peft()
LINEAR = {"target_modules": ["q_proj", "v_proj"]}
WITHIN = {
    "LoRA": ("LoraConfig", LINEAR),
    "DoRA": ("LoraConfig", {**LINEAR, "use_dora": True}),
    "IA3": ("IA3Config", {"target_modules": ["q_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "LoHa": ("LoHaConfig", LINEAR),
    "LoKr": ("LoKrConfig", LINEAR),
    "OFT": ("OFTConfig", {**LINEAR, "r": 2, "oft_block_size": 0}),
    "VeRA": ("VeraConfig", {**LINEAR, "r": 4}),
    "layer norms": ("LNTuningConfig", {"target_modules": ["input_layernorm"]}),
    "trained tokens": ("TrainableTokensConfig", {"token_indices": [6, 7, 8]}),
    "LLaMA-Adapter": ("AdaptionPromptConfig", {"adapter_len": 3, "adapter_layers": 2}),
}
AROUND = {
    "PROMPT_TUNING": ("PromptTuningConfig", {"num_virtual_tokens": 3}),
    "PREFIX_TUNING": ("PrefixTuningConfig", {"num_virtual_tokens": 3}),
    "P_TUNING": ("PromptEncoderConfig", {"num_virtual_tokens": 3}),
    "LORA": ("LoraConfig", {**LINEAR, "alora_invocation_tokens": [6, 7]}),
}


def adapted(kind: str, options: dict[str, Any]) -> Any:
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **options)
    return randomised(peft.get_peft_model(tiny_llama(), config), "default")


@pytest.mark.filterwarnings("ignore:Unsupported layer type")
@pytest.mark.parametrize("name", WITHIN)
def test_adapters_within_the_layers_give_the_tokens_of_the_peft_models_generate(name: str) -> None:
    model = adapted(*WITHIN[name])
    wanted = generated(model)
    assert wanted != generated(tiny_llama())  # the adapter does something
    lm = sb.SpeculativeLM(model, model, num_assistant_tokens=12)
    assert generated(lm) == wanted
    assert lm.stats is not None and lm.stats.target_passes < 7  # its draft has the adapter too


@pytest.mark.parametrize("kind", AROUND)
def test_adapters_around_the_model_are_refused_by_name_with_a_remedy(kind: str) -> None:
    model = adapted(*AROUND[kind])
    for entrance in (unwrapped, sb.ModelDraft, lambda it: sb.Pair(it, None, None)):
        with pytest.raises(ValueError, match=rf"adapter 'default' \({kind}\).*PeftModel's own generate.*LoRA"):
            entrance(model)


def test_an_adapter_that_is_switched_on_later_is_refused_at_the_decode() -> None:
    model = with_lora()
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    pair = sb.Pair(model, sb.RecallDraft(), None)
    config = peft.LoraConfig(task_type="CAUSAL_LM", alora_invocation_tokens=[6, 7], **LINEAR)
    model.add_adapter("called", config)
    assert generated(lm) == generated(model)
    model.set_adapter("called")
    for decode in (lambda: generated(lm), lambda: sb.beam(pair, INPUTS, max_new_tokens=2)):
        with pytest.raises(ValueError, match=r"adapter 'called'.*activated LoRA"):
            decode()


def test_a_mixed_model_is_served() -> None:
    config = peft.LoraConfig(**LINEAR)
    model = randomised(peft.PeftMixedModel(tiny_llama(), config), "default")
    assert generated(sb.SpeculativeLM(model, sb.RecallDraft())) == generated(model)


def test_adapters_that_transformers_puts_into_a_model_are_heard() -> None:
    model = tiny_llama()
    plain = generated(model)
    model.add_adapter(peft.LoraConfig(**LINEAR), adapter_name="one")
    randomised(model, "one")
    assert has_adapters(model) and not has_adapters(tiny_llama())
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    assert generated(lm) == generated(model) != plain
    model.disable_adapters()
    assert generated(lm) == plain


def test_the_peft_model_is_kept_and_passes_go_to_the_model_inside() -> None:
    model = with_lora()
    assert held(model) is model
    assert unwrapped(model) is model.get_base_model()
