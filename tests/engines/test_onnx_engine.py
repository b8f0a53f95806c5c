"""Passes in ONNX Runtime give the tokens that PyTorch gives, whatever the family."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import fake_pair

import specbeam as sb
from specbeam.engines.families import Traits
from specbeam.engines.target import Target
from specbeam.evaluation.tiny_families import tiny_model

pytest.importorskip("onnxruntime", reason="ONNX Runtime: pip install onnxruntime onnxscript")
pytest.importorskip("onnxscript", reason="PyTorch's exporter: pip install onnxscript")

from specbeam.engines.onnx_engine import OnnxEngine
from specbeam.engines.onnx_export import why_not
from specbeam.engines.onnx_store import open_session

LAYERS = (0, 1)  # hidden states that a session returns


def tiny(family: str) -> Any:
    model = tiny_model(family).float()
    model.set_attn_implementation("sdpa")
    return model


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path_factory.getbasetemp() / "graphs"))


@pytest.mark.slow  # an export takes seconds
@pytest.mark.parametrize(
    "family",
    ["llama", "qwen2", "qwen2 (window)", "qwen3", "gemma3_text", "phi", "gpt2", "gpt_neox", "opt", "mistral"],
)
def test_beams_over_padded_prompts_are_those_of_torch(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(family)
    traits, target = Traits.of(model), Target.of(model)
    assert why_not(model, traits) is None
    session = open_session(model, traits, LAYERS)
    ids = torch.tensor([[0, 0, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14]])
    inputs = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    draft = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    options: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 12}
    wanted = sb.beam(fake_pair(model), inputs, **options)
    monkeypatch.setattr(target, "engine", lambda layers=(): OnnxEngine(session, model, layers, traits))
    found = sb.speculative_beam(fake_pair(model, draft), inputs, num_assistant_tokens=8, **options)
    assert found.sequences == wanted.sequences
    assert found.scores == pytest.approx(wanted.scores, abs=1e-4)


@pytest.mark.slow
def test_a_session_knows_when_weights_or_modules_are_others() -> None:
    model = tiny("llama")
    session = open_session(model, Traits.of(model), LAYERS)
    assert session.serves(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    assert not session.serves(model)


def test_models_that_no_graph_serves_are_named_with_the_reason() -> None:
    mapped, mixed = tiny("llama"), tiny("llama")
    mapped.hf_device_map = {"": "cpu"}
    mixed.lm_head.bfloat16()
    for model, reason in (
        (mapped, "device map"),
        (mixed, "several dtypes"),
        (tiny_model("llama"), "float64 on cpu"),
        (tiny_model("bloom").float(), "position_ids"),
        (tiny("llama").train(), "training mode"),
    ):
        assert reason in (why_not(model, Traits.of(model)) or "")
