"""What a pass must cost, worked out by hand, and the errors of engines on a tiny model."""

from __future__ import annotations

import torch
from tiny_models import tiny_llama

from specbeam.engines.target import Target
from specbeam.evaluation.pass_cost import (
    Limits,
    engine_errors,
    least_seconds,
    machine_limits,
    pass_seconds,
    product_weights,
)


def test_a_pass_pays_for_reading_or_for_arithmetic_whichever_is_more() -> None:
    model = tiny_llama(dtype=torch.float32)
    weights = product_weights(model)
    limits = Limits(bytes_per_s=4.0 * weights, flops_per_s=20.0 * weights)
    assert least_seconds(model, limits, 1) == 1.0
    assert least_seconds(model, limits, 30) == 3.0


def test_the_limits_of_this_machine_are_those_of_a_computer() -> None:
    found = machine_limits(repeats=1)
    assert 1e8 < found.bytes_per_s < 1e13 and 1e8 < found.flops_per_s < 1e16


def test_passes_are_timed_in_the_engine_that_serves_and_it_stays() -> None:
    model = tiny_llama(dtype=torch.float32)
    found = pass_seconds(model, [1, 4], repeats=1)
    assert [*found] == ["torch"] and len(found["torch"]) == 2
    assert Target.of(model).runtime == "torch"


def test_the_error_of_float32_is_small_and_not_zero() -> None:
    errors = engine_errors(tiny_llama(dtype=torch.float32))
    assert [*errors] == ["torch"] and 0 < errors["torch"] < 1e-3
