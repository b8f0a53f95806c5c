"""What the decoders refuse, and what they count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import Oracle, fake_pair, hash_lm
from transformers import AutoConfig, AutoModel

import specbeam as sb
from specbeam.evaluation.tiny_families import FAMILIES, tiny_model

BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_new_tokens": 0}, "max_new_tokens"),
    ({"num_beams": 0}, "num_beams"),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences"),
    ({"num_assistant_tokens": -1}, "num_assistant_tokens"),
    ({"max_new_tokns": 3}, "max_new_tokns"),
    ({"num_beams": 2.5}, "num_beams"),
    ({"max_new_tokens": True}, "max_new_tokens"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    pair = fake_pair(hash_lm(), sb.NoDraft())
    inputs = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.tensor([[1, 1]])}
    with pytest.raises(ValueError, match=message):
        sb.speculative_beam(pair, inputs, **options)


def test_an_empty_prompt_is_refused() -> None:
    pair = fake_pair(hash_lm(), sb.NoDraft())
    with pytest.raises(ValueError, match="prompt is empty"):
        sb.greedy(pair, {"input_ids": torch.zeros(1, 0, dtype=torch.long)})


def test_logits_that_are_nan_are_reported_with_a_remedy() -> None:
    target = hash_lm()
    plain = target.forward
    target.forward = lambda *a, **k: _spoiled(plain(*a, **k))  # type: ignore[method-assign]
    pair = fake_pair(target, sb.NoDraft())
    with pytest.raises(ValueError, match="NaN"):
        sb.greedy(pair, {"input_ids": torch.tensor([[1, 2]])})


def _spoiled(output: Any) -> Any:
    output.logits = output.logits * torch.nan
    return output


def test_inputs_without_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="render_prompt"):
        sb.greedy(fake_pair(hash_lm()), {})


@pytest.mark.parametrize("method", ["greedy", "speculative"])
def test_a_method_with_one_beam_names_the_one_with_more(method: str) -> None:
    with pytest.raises(ValueError, match=r"num_beams=3.*use .*beam"):
        sb.METHODS[method](fake_pair(hash_lm()), {"input_ids": torch.tensor([[1]])}, num_beams=3)


def test_encoder_decoders_are_refused_with_the_reason() -> None:
    t5 = AutoModel.from_config(AutoConfig.for_model("t5", d_model=8, d_ff=8, num_layers=1, num_heads=1, vocab_size=16))
    with pytest.raises(ValueError, match="encoder-decoder"):
        sb.SpeculativeLM(t5, sb.NoDraft())


@pytest.mark.filterwarnings("ignore:.*cannot verify a token tree")
@pytest.mark.parametrize("beams", [1, 3])
def test_the_drop_in_decodes_recurrent_models_too(beams: int) -> None:
    mamba = tiny_model(next(family for family in FAMILIES if family.kind == "mamba"))
    inputs = {"input_ids": torch.tensor([[0, 5, 17, 29], [6, 18, 30, 42]])}
    inputs["attention_mask"] = (inputs["input_ids"] > 0).long()
    options: dict[str, Any] = {"max_new_tokens": 8, "num_beams": beams, "do_sample": False}
    lm = sb.SpeculativeLM(mamba, sb.ModelDraft(mamba))
    assert lm.generate(**inputs, **options).tolist() == mamba.generate(**inputs, **options).tolist()
    assert lm.stats is not None and lm.stats.target_passes < lm.stats.steps


def test_a_trace_tells_every_round_of_a_known_run() -> None:
    target = hash_lm(eos=[23])
    inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    decoded = sb.speculative(
        fake_pair(target, Oracle(target)), inputs, max_new_tokens=7, num_assistant_tokens=12, trace=True
    )
    assert decoded.trace is not None
    trace, stats = decoded.trace[0], decoded.stats
    assert trace.results == decoded.sequences
    assert len(trace.rounds) == stats.target_passes
    paid = [r.steps for r in trace.rounds]
    assert [r.first_step for r in trace.rounds] == [sum(paid[:i]) for i in range(len(paid))]
    assert sum(r.steps for r in trace.rounds) == stats.steps == len(trace.steps)
    assert sum(len(r.drafted) for r in trace.rounds) == stats.drafted
    stood = [trace.nodes[nodes[0]].token for nodes in trace.steps[1:]]
    assert stood == decoded.sequences[0][: len(stood)]
    assert [trace.nodes[n].token for n in trace.path(trace.steps[-1][0])] == stood
    for number, round_ in enumerate(trace.rounds):
        assert all(trace.nodes[node].verified == number for node in round_.asked + round_.drafted)
