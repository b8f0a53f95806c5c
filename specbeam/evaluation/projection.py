"""What a decode would gain on a machine that is not here: steps a pass, and a model of what a pass takes there.

How many steps a pass brings depends on target, draft and text, not on the machine, so it can be counted anywhere. What
a pass over n tokens takes is modelled as

    t(n) = max(bytes of weights / bandwidth, 2 · weights · n / rate) + layers · seconds a layer

The last part stands for whatever is neither reading nor multiplying weights: starting kernels, norms, attention over a
short text. A long context, the search itself and memory for the cache are left out. So this is a projection, and how
well the same model predicts passes that were measured is what says how far to believe it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from specbeam.decoding.decoders import Pair, speculative, speculative_beam

DRAFT_LAYERS = 1.5  # a level of a trained draft, its small head included, in layers of the target


@dataclass(frozen=True)
class Machine:
    """What a machine can do at most, and what a layer costs there beyond that."""

    bytes_per_s: float
    flops_per_s: float
    layer_s: float


@dataclass(frozen=True)
class Shape:
    """A model as far as a pass depends on it."""

    weights: float  # numbers that a pass multiplies with
    layers: int
    bytes_a_weight: float = 2.0


@dataclass(frozen=True)
class Foresight:
    """What so many drafted nodes a pass bring, counted over some decodes."""

    nodes: int
    steps: float  # a pass
    tokens: float  # that a pass forwards
    levels: float  # of drafting, for each pass
    step_s: float  # seconds of a step after the prompt, as measured here


def modelled_seconds(machine: Machine, shape: Shape, tokens: float) -> float:
    """Seconds of a pass over so many tokens."""
    reading = shape.bytes_a_weight * shape.weights / machine.bytes_per_s
    return max(reading, 2 * shape.weights * tokens / machine.flops_per_s) + shape.layers * machine.layer_s


def level_seconds(machine: Machine, shape: Shape, tokens: float) -> float:
    """Seconds of one level of a draft of `DRAFT_LAYERS` layers."""
    reading = shape.bytes_a_weight * shape.weights / machine.bytes_per_s
    layer = max(reading, 2 * shape.weights * tokens / machine.flops_per_s) / shape.layers
    return DRAFT_LAYERS * (layer + machine.layer_s)


def count_foresight(
    pair: Pair, prompts: Sequence[Mapping[str, Any]], num_beams: int, nodes: Sequence[int], max_new_tokens: int
) -> list[Foresight]:
    """Decode every prompt with each number of drafted nodes, and count."""
    found = []
    for number in nodes:
        options: dict[str, Any] = {"num_assistant_tokens": number, "max_new_tokens": max_new_tokens}
        if num_beams == 1:
            stats = [speculative(pair, one, do_sample=False, **options).stats for one in prompts]
        else:
            stats = [
                speculative_beam(pair, one, num_beams=num_beams, do_sample=False, **options).stats for one in prompts
            ]
        steps, passes, tokens, levels = (
            sum(getattr(each, name) for each in stats)
            for name in ("steps", "target_passes", "target_tokens", "draft_passes")
        )
        # a prompt's own pass is paid with and without a draft
        later, read = max(1, passes - len(prompts)), sum(one["input_ids"].numel() for one in prompts)
        step_s = sum(each.decode_s for each in stats) / max(1, steps - len(prompts))
        found.append(Foresight(number, steps / passes, (tokens - read) / later, levels / passes, step_s))
    return found


def projected_gains(machine: Machine, shape: Shape, curve: Sequence[Foresight]) -> dict[int, float]:
    """Speed with each number of drafted nodes, in terms of the same search without a draft.

    Raises ValueError for a curve without the point of no drafted nodes.
    """
    plain = next((point for point in curve if point.nodes == 0), None)
    if plain is None:
        raise ValueError("the curve has no point with 0 nodes, which the others are compared with.")
    before = modelled_seconds(machine, shape, plain.tokens) / plain.steps
    gains = {}
    for point in curve:
        drafting = point.levels * level_seconds(machine, shape, point.tokens) if point.nodes else 0.0
        gains[point.nodes] = before * point.steps / (modelled_seconds(machine, shape, point.tokens) + drafting)
    return gains


def prediction_errors(
    machine: Machine, shape: Shape, nodes: Sequence[int], seconds: Sequence[float]
) -> tuple[Machine, list[float]]:
    """The machine with the seconds a layer that the measured passes tell, and the model's error at each (0.1: 10 %)."""
    bare = [modelled_seconds(machine, shape, each) - shape.layers * machine.layer_s for each in nodes]
    layer_s = max(0.0, median(taken - least for taken, least in zip(seconds, bare, strict=True)) / shape.layers)
    known = Machine(machine.bytes_per_s, machine.flops_per_s, layer_s)
    return known, [modelled_seconds(known, shape, each) / taken - 1 for each, taken in zip(nodes, seconds, strict=True)]
