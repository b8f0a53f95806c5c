"""Cost curves: between and beyond the measured points, and what is remembered of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from specbeam.core.scorer import TreeScorer
from specbeam.engines import latency as costs
from specbeam.engines.latency import TYPICAL, CostCurve, cost_curve, measure_costs


def tiny() -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[CostCurve]:
    """Every model is measured, or so it seems: the curves that were asked for are counted."""
    made: list[CostCurve] = []

    def measure(model: Any) -> CostCurve:
        made.append(CostCurve((1, 2), (1.0, float(len(made) + 2))))
        return made[-1]

    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path))
    monkeypatch.setattr(costs, "SMALLEST", 0)
    monkeypatch.setattr(costs, "measure_costs", measure)
    return made


def test_between_the_points_it_is_a_line_and_beyond_them_the_last_line_goes_on() -> None:
    curve = CostCurve((1, 4, 8), (10.0, 13.0, 21.0))
    assert [curve(nodes) for nodes in (1, 2, 4, 6, 8, 10)] == pytest.approx([10.0, 11.0, 13.0, 17.0, 21.0, 25.0])
    assert curve(0) == 10.0


@pytest.mark.parametrize(
    ("nodes", "seconds"),
    [((1,), (1.0,)), ((1, 2), (1.0,)), ((2, 1), (1.0, 2.0)), ((1, 2), (2.0, 1.0)), ((1, 2), (0.0, 1.0))],
)
def test_what_is_no_rising_curve_is_refused(nodes: tuple[int, ...], seconds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="cost curve"):
        CostCurve(nodes, seconds)


def test_a_measured_curve_never_falls() -> None:
    curve = measure_costs(tiny(), nodes=(1, 2, 8), repeats=1)
    assert curve.nodes == (1, 2, 8) and list(curve.seconds) == sorted(curve.seconds) and curve.seconds[0] > 0


def test_a_tiny_model_is_not_measured() -> None:
    assert cost_curve(tiny()) is TYPICAL


def test_a_curve_is_measured_once_for_a_model_and_its_likes(measured: list[CostCurve], tmp_path: Path) -> None:
    model = tiny()
    assert cost_curve(model) is cost_curve(model)
    assert cost_curve(tiny()) == measured[0]  # another copy finds it in the file
    assert len(measured) == 1
    cost_curve(tiny().double())
    assert len(measured) == 2
    assert len(list((tmp_path / "costs").glob("*.json"))) == 2


def test_a_damaged_or_an_old_file_is_measured_again(measured: list[CostCurve], tmp_path: Path) -> None:
    cost_curve(tiny())
    (path,) = (tmp_path / "costs").iterdir()
    path.write_text('{"nodes": [1, 2]')
    cost_curve(tiny())
    assert len(measured) == 2
    old = time.time() - costs.GOOD_FOR_S - 60
    os.utime(path, (old, old))
    cost_curve(tiny())
    assert len(measured) == 3


def test_measuring_goes_on_as_long_as_it_finds_shorter_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now, passes = [0.0], [0]

    def clock() -> float:
        return now[0]

    class Busy(TreeScorer):
        """A pass takes a second, and nine more at first."""

        def score(self, nodes: list[list[int]]) -> torch.Tensor:
            passes[0] += 1
            now[0] += 1.0 + 9.0 * (passes[0] <= 12)
            return super().score(nodes)

    monkeypatch.setattr(costs, "scorer_for", Busy)
    monkeypatch.setattr(costs.time, "perf_counter", clock)
    assert measure_costs(tiny(), nodes=(1, 2), repeats=4).seconds == (10.0, 10.0)  # nothing better in sight by then
    passes[0] = 4
    assert measure_costs(tiny(), nodes=(1, 2), repeats=4).seconds == (1.0, 1.0)


def test_a_curve_that_passes_undercut_is_measured_again(measured: list[CostCurve], tmp_path: Path) -> None:
    model = tiny()
    cost_curve(model)
    costs.doubt(model, [0.5] * 4)  # too few to say
    costs.doubt(model, [0.5] * 3 + [1.1] * 9)
    costs.doubt(model, [3.0] * 20)  # the machine is busy now
    assert cost_curve(model) is measured[0]
    costs.doubt(model, [0.5] * 20)
    assert not list((tmp_path / "costs").iterdir())
    cost_curve(model)
    assert len(measured) == 2
    costs.doubt(model, [0.5] * 20)  # no second time, or every decode would measure
    assert cost_curve(model) is measured[1]


def test_a_folder_that_cannot_be_written_to_costs_a_measurement_and_nothing_else(
    measured: list[CostCurve], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path / "file"))
    assert cost_curve(tiny()) == measured[0]
