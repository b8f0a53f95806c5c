"""Latency curves: between and beyond the measured points, and what is remembered of them."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from specbeam.core.scorer import Output, TreePass
from specbeam.engines import latency
from specbeam.engines.draft_size import AdaptiveDraftSize, LatencyCurve
from specbeam.engines.latency import TYPICAL, measure_latency
from specbeam.engines.target import Target
from specbeam.engines.torch_engine import TorchEngine


def tiny() -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama", vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    return AutoModelForCausalLM.from_config(config).eval()


def curve_of(model: Any) -> LatencyCurve:
    return Target.of(model).latency


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[LatencyCurve]:
    """Every model is measured, or so it seems: the curves that were asked for are counted."""
    made: list[LatencyCurve] = []

    def measure(model: Any) -> LatencyCurve:
        made.append(LatencyCurve((1, 2), (1.0, float(len(made) + 2))))
        return made[-1]

    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path))
    monkeypatch.setattr(latency, "SMALLEST", 0)
    monkeypatch.setattr(latency, "measure_latency", measure)
    monkeypatch.setattr(latency.OthersLoad, "share", lambda load: 0.0)  # whatever else this machine does
    return made


def test_between_the_points_it_is_a_line_and_beyond_them_the_last_line_goes_on() -> None:
    curve = LatencyCurve((1, 4, 8), (10.0, 13.0, 21.0))
    assert [curve(nodes) for nodes in (1, 2, 4, 6, 8, 10)] == pytest.approx([10.0, 11.0, 13.0, 17.0, 21.0, 25.0])
    assert curve(0) == 10.0


@pytest.mark.parametrize(
    ("nodes", "seconds"),
    [((1,), (1.0,)), ((1, 2), (1.0,)), ((2, 1), (1.0, 2.0)), ((1, 2), (2.0, 1.0)), ((1, 2), (0.0, 1.0))],
)
def test_what_is_no_rising_curve_is_refused(nodes: tuple[int, ...], seconds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="latency curve"):
        LatencyCurve(nodes, seconds)


def test_a_wider_pass_that_was_faster_counts_as_long_as_the_narrower_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now, seconds = [0.0], {1: 2.0, 2: 1.0, 8: 5.0}

    class Timed(TorchEngine):
        def forward(self, tree_pass: TreePass) -> Output:
            now[0] += seconds[tree_pass.tokens.shape[1]]
            return super().forward(tree_pass)

    model = tiny()
    monkeypatch.setattr(Target, "engine", lambda target: Timed(target.model))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    curve = measure_latency(Target.of(model), nodes=(1, 2, 8), repeats=1)
    assert (curve.nodes, curve.seconds) == ((1, 2, 8), (2.0, 2.0, 5.0))


def test_a_tiny_model_is_not_measured() -> None:
    assert curve_of(tiny()) is TYPICAL


def test_a_curve_is_measured_once_for_a_model_and_its_likes(measured: list[LatencyCurve], tmp_path: Path) -> None:
    model = tiny()
    assert curve_of(model) is curve_of(model)
    assert curve_of(tiny()) == measured[0]  # another copy finds it in the file
    assert len(measured) == 1
    curve_of(tiny().double())
    assert len(measured) == 2
    assert len(list((tmp_path / "costs").glob("*.json"))) == 2


def test_a_damaged_or_an_old_file_is_measured_again(measured: list[LatencyCurve], tmp_path: Path) -> None:
    curve_of(tiny())
    (path,) = (tmp_path / "costs").iterdir()
    path.write_text('{"nodes": [1, 2]')
    curve_of(tiny())
    assert len(measured) == 2
    old = time.time() - latency.GOOD_FOR_S - 60
    os.utime(path, (old, old))
    curve_of(tiny())
    assert len(measured) == 3


def test_measuring_goes_on_as_long_as_it_finds_shorter_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now, passes = [0.0], [0]

    def clock() -> float:
        return now[0]

    class Busy(TorchEngine):
        """A pass takes a second, and nine more at first."""

        def forward(self, tree_pass: TreePass) -> Output:
            passes[0] += 1
            now[0] += 1.0 + 9.0 * (passes[0] <= 12)
            return super().forward(tree_pass)

    model = tiny()
    monkeypatch.setattr(Target, "engine", lambda target: Busy(target.model))
    monkeypatch.setattr(latency.time, "perf_counter", clock)
    # nothing better in sight by then
    assert measure_latency(Target.of(model), nodes=(1, 2), repeats=4).seconds == (10.0, 10.0)
    passes[0] = 4
    assert measure_latency(Target.of(model), nodes=(1, 2), repeats=4).seconds == (1.0, 1.0)


def decoded(target: Target, shares: list[float]) -> None:
    """A decode whose passes took these shares of what the curve foretold."""
    curve = target.latency
    size = AdaptiveDraftSize(curve, target.correct_latency)
    for share in shares:
        size.passed(2, share * float(curve(2)))
    size.finish()


def test_a_curve_that_passes_undercut_is_measured_again(measured: list[LatencyCurve], tmp_path: Path) -> None:
    model = tiny()
    target = Target.of(model)
    decoded(target, [0.5] * 4)  # too few to say
    decoded(target, [0.5] * 3 + [1.1] * 9)
    decoded(target, [3.0] * 20)  # the machine is busy now
    assert target.latency is measured[0]
    decoded(target, [0.5] * 20)
    assert not list((tmp_path / "costs").iterdir())
    assert target.latency is measured[1] and len(measured) == 2
    decoded(target, [0.5] * 20)  # no second time, or every decode would measure
    assert target.latency is measured[1]


def test_a_folder_that_cannot_be_written_to_costs_a_measurement_and_nothing_else(
    measured: list[LatencyCurve], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path / "file"))
    assert curve_of(tiny()) == measured[0]


def test_a_cache_that_cannot_be_written_to_keeps_its_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    model = tiny()
    monkeypatch.setattr(Path, "unlink", read_only)
    latency.forget_latency(Target.of(model))
