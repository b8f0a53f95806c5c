"""The faster engine is found once, remembered, and PyTorch serves with a line wherever ONNX Runtime cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import tiny_llama

from specbeam.engines import choice
from specbeam.engines.choice import choose_engine
from specbeam.engines.draft_size import LatencyCurve
from specbeam.engines.packing import PackedLinear
from specbeam.engines.target import Target

Times = dict[str, float]


@pytest.fixture
def seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Times:
    """What a pass takes in each engine; ONNX Runtime is there, and does nothing."""
    times: Times = {"onnx": 1.0, "torch": 2.0, "measured": 0.0}

    def measure(target: Target, nodes: tuple[int, ...], *_: Any) -> LatencyCurve:
        times["measured"] += 1
        return LatencyCurve(nodes, (times[target.runtime],) * len(nodes))

    def use_onnx(target: Target, state_layers: tuple[int, ...] = ()) -> None:
        target.onnx = SimpleNamespace(state_layers=state_layers)  # type: ignore[assignment]

    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path))
    monkeypatch.setattr(choice, "SMALLEST", 0)
    monkeypatch.setattr(choice, "measure_latency", measure)
    monkeypatch.setattr(Target, "use_onnx", use_onnx)
    return times


@pytest.fixture
def target() -> Callable[[], Target]:
    """Makes targets of new models, which a target does not keep alive."""
    models = []

    def make() -> Target:
        models.append(tiny_llama(dtype=torch.float32))
        return Target.of(models[-1])

    return make


@pytest.mark.parametrize(("torch_s", "chosen"), [(2.0, "onnx"), (0.5, "torch")])
def test_the_faster_engine_is_measured_once_and_remembered(
    seconds: Times, target: Any, torch_s: float, chosen: str
) -> None:
    seconds["torch"] = torch_s
    for _ in range(2):
        found = target()
        assert choose_engine(found, "auto", (1,)) == (chosen == "onnx")
        assert found.runtime == chosen and seconds["measured"] == 2


def test_weights_are_as_before_after_the_measurement(seconds: Times, target: Any) -> None:
    found = target()
    before = {name: each.clone() for name, each in found.model.named_parameters()}
    choose_engine(found, "auto")
    assert not any(isinstance(module, PackedLinear) for module in found.model.modules())
    assert all(torch.equal(before[name], each) for name, each in found.model.named_parameters())


def test_what_cannot_be_exported_is_said_once_and_remembered(
    seconds: Times, target: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("its export fails")

    monkeypatch.setattr(Target, "use_onnx", fails)
    for _ in range(2):
        assert not choose_engine(target(), "auto")
    assert capsys.readouterr().err == "PyTorch serves LlamaForCausalLM, as ONNX Runtime cannot: its export fails\n"


def test_without_room_for_a_second_layout_of_the_weights_pytorch_serves(
    seconds: Times, target: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(choice.psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    assert not choose_engine(target(), "auto")
    assert "0.0 GB are free" in capsys.readouterr().err


@pytest.mark.parametrize("change", [lambda model: model.double(), lambda model: model.bfloat16()])
def test_other_dtypes_are_pytorchs_without_a_word(
    seconds: Times, change: Callable[[Any], Any], capsys: pytest.CaptureFixture
) -> None:
    model = change(tiny_llama(dtype=torch.float32))
    assert not choose_engine(Target.of(model), "auto")
    assert capsys.readouterr().err == "" and seconds["measured"] == 0


def test_pytorch_when_it_is_asked_for(seconds: Times, target: Any) -> None:
    assert not choose_engine(target(), "torch") and seconds["measured"] == 0
