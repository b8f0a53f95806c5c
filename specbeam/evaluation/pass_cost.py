"""What a pass costs in each engine, beside what the machine must pay, and how exact each engine is.

A pass over n tokens reads all weights of its products once and multiplies each with n numbers. So it takes at least

    max(bytes of weights / bandwidth, 2 · weights · n / rate)

seconds, with the memory bandwidth and the rate of floating-point operations that the machine reaches here and now.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specbeam.core.scorer import Engine
from specbeam.engines.latency import measure_latency
from specbeam.engines.onnx_check import sample_passes
from specbeam.engines.target import Target
from specbeam.engines.torch_engine import TorchEngine

READ = 50_000_000  # float32 numbers, more than any cache holds
SQUARE = 1024  # rows and columns of the matrices that are multiplied


@dataclass(frozen=True)
class Limits:
    """What the machine reaches, with as many threads as PyTorch has."""

    bytes_per_s: float  # reading memory
    flops_per_s: float  # multiplying matrices in float32


def machine_limits(repeats: int = 8) -> Limits:
    """Measure both; the best of the repeats counts."""
    numbers, square = torch.ones(READ), torch.randn(SQUARE, SQUARE)
    reading = min(_seconds(numbers.sum) for _ in range(repeats))
    product = min(_seconds(lambda: square @ square) for _ in range(2 * repeats))
    return Limits(4 * READ / reading, 2 * SQUARE**3 / product)


def product_weights(model: PreTrainedModel) -> int:
    """How many numbers the linear layers of `model` multiply with; the head counts, the embedding does not."""
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear))


def least_seconds(model: PreTrainedModel, limits: Limits, tokens: int) -> float:
    """What a pass over so many tokens takes at least, in float32."""
    weights = product_weights(model)
    return max(4 * weights / limits.bytes_per_s, 2 * weights * tokens / limits.flops_per_s)


def pass_seconds(model: PreTrainedModel, nodes: Sequence[int], repeats: int = 4) -> dict[str, list[float]]:
    """Seconds of passes over trees of these sizes: engine -> one a size. The model's choice of an engine stays."""
    target = Target.of(model)
    chosen = target.onnx
    found = {}
    try:
        for engine in ("onnx", "torch") if chosen is not None else ("torch",):
            target.onnx = chosen if engine == "onnx" else None
            found[engine] = [*measure_latency(target, tuple(nodes), repeats, repeats).seconds]
    finally:
        target.onnx = chosen
    return found


@torch.inference_mode()
def engine_errors(model: PreTrainedModel) -> dict[str, float]:
    """The largest error of a logit in each engine against the same weights in float64, over prompts and a small tree.

    A float64 copy of the model is made for it, of twice its size.
    """
    target = Target.of(model)
    wide: Any = copy.deepcopy(model).double()
    engines: dict[str, Engine] = {"torch": TorchEngine(model)}
    if target.onnx is not None:
        engines["onnx"] = target.engine()
    exact = _logits(TorchEngine(wide), wide)
    return {name: float((_logits(engine, model) - exact).abs().max()) for name, engine in engines.items()}


def _logits(engine: Engine, model: PreTrainedModel) -> Tensor:
    return torch.cat([rows.double() for rows in sample_passes(engine, model)])


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
