"""From a model as people hold it to the causal LM inside, or to a refusal that names what to hand in instead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import tiny_llama
from torch import nn
from transformers import LlamaConfig, LlamaModel

import specbeam as sb
from specbeam.engines.target import Target
from specbeam.engines.wrappers import held, unwrapped

MODEL: Any = tiny_llama(layers=1)


class Forwards:
    """Hands on what it does not have itself."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


class ForwardingModule(nn.Module):
    """The same as a module."""

    def __init__(self, inner: Any):
        super().__init__()
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def forward(self, *args: Any, **options: Any) -> Any:
        return self.inner(*args, **options)


class OwnGenerate(nn.Module):
    """Generates in a way of its own."""

    def __init__(self, inner: Any):
        super().__init__()
        self.pretrained_model = inner

    def generate(self, *args: Any, **options: Any) -> Any:
        return self.pretrained_model.generate(*args, **options)


def data_parallel(model: Any) -> Any:
    """A wrapper of data parallelism; that of several processes has the same attribute and cannot be made in one."""
    return nn.DataParallel(model)


@pytest.mark.parametrize(
    "wrap",
    [
        Forwards,
        ForwardingModule,
        data_parallel,
        lambda model: Forwards(ForwardingModule(data_parallel(model).module)),
        lambda model: sb.SpeculativeLM(model, sb.RecallDraft()),
        lambda model: Forwards(sb.SpeculativeLM(model, sb.RecallDraft())),
    ],
)
def test_wrappers_lead_to_the_model_whose_generate_they_hand_on(wrap: Any) -> None:
    assert unwrapped(wrap(MODEL)) is held(wrap(MODEL)) is MODEL
    assert Target.of(wrap(MODEL)) is Target.of(MODEL)


def test_a_compiled_model_is_called_as_it_is() -> None:
    compiled = torch.compile(MODEL, backend="eager")
    assert unwrapped(compiled) is compiled


def test_a_compiled_wrapper_is_decoded_without_its_compilation_and_says_so() -> None:
    compiled = torch.compile(ForwardingModule(MODEL), backend="eager")
    with pytest.warns(UserWarning, match="ForwardingModule is decoded without its compilation"):
        assert unwrapped(compiled) is MODEL


@pytest.mark.parametrize(
    "wrapper, words",
    [
        (OwnGenerate(MODEL), r"OwnGenerate is no causal LM.*hand in its `pretrained_model`, a LlamaForCausalLM"),
        (SimpleNamespace(lm=MODEL), r"SimpleNamespace is no causal LM.*hand in its `lm`"),
        (sb.Pair(MODEL, None, None), r"Pair is no causal LM.*hand in its `target`"),
        (nn.Sequential(MODEL), r"Sequential is no causal LM.*hand in its `0`"),
        (nn.Linear(2, 2), r"Linear is no causal LM.*AutoModelForCausalLM.from_pretrained"),
        ("gpt2", r"str 'gpt2' is no causal LM.*let load_pair load one"),
        (None, "None is no causal LM"),
        (type(MODEL), "no causal LM"),
        (
            LlamaModel(LlamaConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)),
            "LlamaModel has no language-model head.*AutoModelForCausalLM",
        ),
    ],
)
def test_what_is_no_causal_lm_is_refused_and_what_it_holds_is_named(wrapper: Any, words: str) -> None:
    for entrance in (unwrapped, held, Target.of, sb.ModelDraft, lambda it: sb.SpeculativeLM(it, sb.NoDraft())):
        with pytest.raises(ValueError, match=words):
            entrance(wrapper)


def test_weights_that_lie_on_several_processes_are_refused_with_the_remedy() -> None:
    class FullyShardedDataParallel(Forwards):
        pass

    with pytest.raises(ValueError, match=r"parts of its weights.*tp_plan"):
        unwrapped(FullyShardedDataParallel(MODEL))
