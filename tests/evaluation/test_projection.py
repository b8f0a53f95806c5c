"""Projections worked out by hand, and counts that are those of the decodes."""

from __future__ import annotations

import pytest
import torch
from tiny_models import tiny_llama

import specbeam as sb
from specbeam.evaluation.projection import (
    DRAFT_LAYERS,
    Foresight,
    Machine,
    Shape,
    count_foresight,
    level_seconds,
    modelled_seconds,
    prediction_errors,
    projected_gains,
)

MACHINE = Machine(bytes_per_s=200.0, flops_per_s=1000.0, layer_s=0.1)
SHAPE = Shape(weights=100.0, layers=4)


def test_a_pass_reads_or_multiplies_and_every_layer_adds_its_part() -> None:
    assert modelled_seconds(MACHINE, SHAPE, 1) == pytest.approx(1.0 + 0.4)
    assert modelled_seconds(MACHINE, SHAPE, 20) == pytest.approx(4.0 + 0.4)
    assert level_seconds(MACHINE, SHAPE, 20) == pytest.approx(DRAFT_LAYERS * (1.0 + 0.1))


def test_a_gain_is_steps_over_what_they_cost_beside_a_search_without_a_draft() -> None:
    curve = [Foresight(0, 1.0, 4, 0.0, 1.0), Foresight(16, 3.0, 20, 2.0, 1.0)]
    drafted = 4.4 + 2 * level_seconds(MACHINE, SHAPE, 20)
    assert projected_gains(MACHINE, SHAPE, curve) == {0: 1.0, 16: pytest.approx(3.0 * 1.4 / drafted)}
    with pytest.raises(ValueError, match="no point with 0 nodes"):
        projected_gains(MACHINE, SHAPE, curve[1:])


def test_a_machine_that_is_as_the_model_says_is_predicted_without_error() -> None:
    nodes = [1, 5, 10, 20]
    seconds = [modelled_seconds(MACHINE, SHAPE, each) for each in nodes]
    known, errors = prediction_errors(Machine(200.0, 1000.0, 0.0), SHAPE, nodes, seconds)
    assert known.layer_s == pytest.approx(0.1) and errors == pytest.approx([0.0] * 4)
    _, errors = prediction_errors(Machine(200.0, 1000.0, 0.0), SHAPE, [1, 1, 1], [1.4, 1.4, 2.8])
    assert errors == pytest.approx([0.0, 0.0, -0.5])


@pytest.mark.parametrize("beams", [1, 3])
def test_what_is_counted_is_what_the_decodes_did(beams: int) -> None:
    pair = sb.Pair(tiny_llama(dtype=torch.float64), sb.RecallDraft(), None)
    prompts = [{"input_ids": torch.tensor([[5, 9, 5, 9, 5]])}, {"input_ids": torch.tensor([[7, 7, 7]])}]
    none, some = count_foresight(pair, prompts, beams, [0, 6], 8)
    assert none == Foresight(0, 1.0, none.tokens, 0.0, none.step_s) and 1 <= none.tokens <= beams
    assert some.nodes == 6 and some.steps >= 1.0 and some.tokens > none.tokens and some.step_s > 0
