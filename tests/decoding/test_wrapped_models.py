"""Decoding models as people hold them: wrapped, compiled, with adapters that are switched."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from peft_models import INPUTS, generated, needs_peft, with_lora
from sparse import mostly_slow
from tiny_models import chat_tokenizer, tiny_llama
from torch import nn
from transformers import GenerationConfig

import specbeam as sb

OPTIONS = {"max_new_tokens": 10, "num_beams": 3}


class Forwards:
    """Hands on what it does not have itself."""

    def __init__(self, inner: Any):
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)


def offloaded(model: Any) -> Any:
    """A model whose weights accelerate keeps elsewhere and fetches layer by layer; it says that it is on "meta"."""
    return cpu_offload(model, execution_device=torch.device("cpu"))


WRAPS = {
    "an offloaded model": offloaded,
    "a drop-in": lambda model: sb.SpeculativeLM(model, sb.RecallDraft()),
    "an object that forwards": Forwards,
    "data parallelism": nn.DataParallel,
    "a compiled model": lambda model: torch.compile(model, backend="eager", dynamic=True),
}


def decoded(pair: sb.Pair, **options: Any) -> list[list[int]]:
    """Prompts and the tokens of speculative beam search, as `generate` returns them where no row ends early."""
    found = sb.speculative_beam(pair, INPUTS, **{**OPTIONS, **options})
    return [row.tolist() + new for row, new in zip(INPUTS["input_ids"], found.sequences, strict=True)]


def trimmed(rows: list[list[int]], pad: int = 0) -> list[list[int]]:
    """Rows without the padding at their ends."""
    return [row[: max(place for place, token in enumerate(row) if token != pad) + 1] for row in rows]


@pytest.mark.parametrize("name", mostly_slow(WRAPS, lambda name: name != "a compiled model"))
def test_a_wrapped_target_or_draft_decodes_as_the_model_does(name: str) -> None:
    model, wanted = WRAPS[name](tiny_llama()), generated(tiny_llama())
    for lm in (sb.SpeculativeLM(model, sb.RecallDraft()), sb.SpeculativeLM(tiny_llama(), model)):
        assert generated(lm) == wanted
    pair = sb.Pair(model, WRAPS[name](tiny_llama(layers=1)), chat_tokenizer())
    assert isinstance(pair.draft, sb.ModelDraft)
    assert decoded(pair) == trimmed(wanted)
    assert pair.target.device.type in ("cpu", "meta")


def test_a_draft_that_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'recall' is no causal LM"):
        sb.SpeculativeLM(tiny_llama(), "recall")
    with pytest.raises(ValueError, match=r"Linear is no causal LM"):
        sb.Pair(tiny_llama(), nn.Linear(2, 2), None)


def test_an_adapter_is_served_as_target_and_as_draft_by_every_entrance() -> None:
    needs_peft()
    model, small = with_lora(), with_lora(tiny_llama(layers=1))
    wanted = generated(model)
    for draft in (small, sb.ModelDraft(small), model):
        assert generated(sb.SpeculativeLM(model, draft)) == wanted
        assert decoded(sb.Pair(model, draft, chat_tokenizer())) == trimmed(wanted)
    oracle = sb.SpeculativeLM(model, model, num_assistant_tokens=12)
    generated(oracle)
    assert oracle.stats is not None and oracle.stats.target_passes < 6  # the draft has the adapter too


def test_switched_adapters_are_heard_by_target_and_draft() -> None:
    needs_peft()
    model = with_lora(None, "other")
    pair, lm = sb.Pair(model, model, chat_tokenizer()), sb.SpeculativeLM(model, model)
    seen = []

    def compare() -> None:
        seen.append(generated(model))
        assert generated(lm) == seen[-1]
        assert decoded(pair) == trimmed(seen[-1])

    compare()
    model.set_adapter("other")
    compare()
    with model.disable_adapter():
        compare()
    compare()
    pair.target.set_adapter("default")
    compare()
    lm.set_adapter("other")
    compare()
    model.merge_adapter()
    compare()
    assert seen[1] == seen[3] == seen[5] == seen[6] and seen[0] == seen[4]
    assert len({str(seen[k]) for k in (0, 1, 2)}) == 3
    assert seen[2] == generated(tiny_llama())


def test_the_drop_in_has_what_the_peft_model_has() -> None:
    needs_peft()
    model = with_lora()
    lm = sb.SpeculativeLM(model, sb.RecallDraft())
    assert lm.eval() is lm and lm.to("cpu") is lm
    assert lm.peft_config is model.peft_config and lm.lm_head is model.lm_head
    model.generation_config = GenerationConfig(max_new_tokens=4, eos_token_id=2, pad_token_id=0)
    wanted = model.generate(**INPUTS)
    assert torch.equal(lm.generate(**INPUTS), wanted) and wanted.shape[1] <= 9
    assert torch.equal(copy.deepcopy(lm).generate(**INPUTS), wanted)


def test_adapters_by_row_are_refused_by_name() -> None:
    needs_peft()
    lm = sb.SpeculativeLM(with_lora(None, "other"), sb.RecallDraft())
    with pytest.raises(ValueError, match="adapter_names"):
        lm.generate(**INPUTS, adapter_names=["default", "other"])
