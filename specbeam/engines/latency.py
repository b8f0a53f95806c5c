"""What a target pass costs, by the number of tokens in it: measured once on this machine, then remembered.

A tree may be as large as a pass over it is cheap, and that differs: on a GPU a hundred tokens cost what one does, on
a CPU with packed weights sixteen cost half as much again. So it is measured: about a second for a small model.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from specbeam.core.tree import ROOT, TokenTree
from specbeam.files import cache_folder

from .cuda_graphs import records_passes
from .families import bound
from .sequences import scorer_for

NODES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CONTEXT = 256  # tokens before the tree; the cost of a few rows hardly depends on it
REPEATS = 4  # at least
MOST_REPEATS = 16
STABLE = 0.98  # the times have settled if two more repeats lower their sum by less than 2 %
GOOD_FOR_S = 7 * 24 * 3600  # a curve that was measured on a busy machine shall not stay for ever
SMALLEST = 20_000_000  # parameters; a smaller model's pass is all overhead, and no measurement finds a slope
TOO_FAST = 0.8  # of what the curve says; a short context alone makes a pass 5 % faster
FEWEST_PASSES = 8
_known: weakref.WeakKeyDictionary[PreTrainedModel, CostCurve] = weakref.WeakKeyDictionary()
_doubted: weakref.WeakSet[PreTrainedModel] = weakref.WeakSet()


@dataclass(frozen=True)
class CostCurve:
    """Seconds of a pass over `nodes` tokens, never falling; between the measured points a straight line."""

    nodes: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self):
        rising = list(self.nodes) == sorted(set(self.nodes)) and list(self.seconds) == sorted(self.seconds)
        if len(self.nodes) < 2 or len(self.nodes) != len(self.seconds) or not rising or self.seconds[0] <= 0:
            raise ValueError(
                f"a cost curve needs at least two points with rising nodes and positive seconds that do not fall, "
                f"got nodes={self.nodes} and seconds={self.seconds}."
            )

    def __call__(self, nodes: float) -> float:
        """Seconds of a pass over `nodes` tokens; beyond the last point the last slope goes on."""
        right = min(max(bisect_left(self.nodes, nodes), 1), len(self.nodes) - 1)
        x0, x1 = self.nodes[right - 1 : right + 1]
        y0, y1 = self.seconds[right - 1 : right + 1]
        return max(y0 + (y1 - y0) * (nodes - x0) / (x1 - x0), self.seconds[0])


# a token more costs 3 % of a pass over one: between a CPU and a GPU
TYPICAL = CostCurve((1, 64), (1.0, 2.9))


def cost_curve(model: PreTrainedModel) -> CostCurve:
    """The curve of `model` as it is loaded here: measured at the first call, from then on out of the cache.

    The cache is a file for each model, dtype, device, number of threads and version of torch, in `cache_folder()`; it
    is measured again after a week. A model of less than `SMALLEST` parameters gets `TYPICAL`, and so does one
    that takes no tree: its passes cost by the sequence.
    """
    if model not in _known:
        if sum(p.numel() for p in model.parameters()) < SMALLEST or bound(model) is not None:
            _known[model] = TYPICAL
        else:
            path = cache_folder() / "costs" / f"{_key(model)}.json"
            found = _read(path)
            if found is None:
                found = measure_costs(model)
                _write(path, found)
            _known[model] = found
    return _known[model]


def doubt(model: PreTrainedModel, shares: Sequence[float]) -> None:
    """Forget the curve of `model` if passes were clearly faster than it says: it was measured on a busy machine.

    `shares` are seconds taken over seconds foretold, one a pass. Slower passes prove nothing: the machine may be busy.
    Once in a process is enough: if passes are still faster after that, it is not the measurement.
    """
    if model in _doubted:
        return
    if (
        len(shares) >= FEWEST_PASSES
        and sorted(shares)[len(shares) // 2] < TOO_FAST
        and _known.get(model) is not TYPICAL
    ):
        _doubted.add(model)
        _known.pop(model, None)
        (cache_folder() / "costs" / f"{_key(model)}.json").unlink(missing_ok=True)


@torch.inference_mode()
def measure_costs(model: PreTrainedModel, nodes: tuple[int, ...] = NODES, repeats: int = REPEATS) -> CostCurve:
    """Time passes over trees of these sizes after a prompt of `CONTEXT` tokens; the least of the repeats counts.

    The sizes take turns, so that a slow spell of the machine meets all of them, and there are more than `repeats` as
    long as that finds shorter times.
    """
    ids = torch.arange(CONTEXT, device=model.device)[None] % model.config.get_text_config().vocab_size
    taken: dict[int, list[float]] = {size: [] for size in nodes}
    scorer, tree = scorer_for(model), TokenTree(ids[0].tolist())
    scorer.start([tree], ids, torch.ones_like(ids))
    sums: list[float] = []
    for repeat in range(max(repeats, MOST_REPEATS) + 1):
        if repeat > max(repeats, 2) and sums[-1] > STABLE * sums[-3]:
            break
        for size in nodes:
            asked = [tree.child(ROOT, token) for token in range(size)]
            scorer.compact([[asked[0]]])
            began = time.perf_counter()
            scorer.score([asked])[-1, -1].item()  # waits for a GPU
            if repeat:  # the first of each size warms up
                taken[size].append(time.perf_counter() - began)
        sums.append(sum(min(times, default=math.inf) for times in taken.values()))
    least, seconds = 0.0, []
    for size in nodes:
        least = max(least, min(taken[size]))
        seconds.append(least)
    return CostCurve(nodes, tuple(seconds))


def _key(model: PreTrainedModel) -> str:
    layers = sorted({_layer(module) for module in model.modules()})  # packed and quantized ones have their own kernels
    names = (model.config.to_json_string(), model.dtype, model.device, layers, torch.get_num_threads())
    if model.device.type == "cuda":
        names += (torch.cuda.get_device_name(model.device), records_passes(model))
    machine = (platform.machine(), platform.processor(), os.cpu_count(), torch.__version__)
    return hashlib.sha256(repr((names, machine)).encode()).hexdigest()[:16]


def _layer(module: torch.nn.Module) -> str:
    weight = getattr(module, "weight", None)
    kind = f"{type(weight.data).__name__} {weight.dtype}" if isinstance(weight, torch.Tensor) else ""
    return f"{type(module).__name__} {kind}"


def _read(path: Path) -> CostCurve | None:
    try:
        if time.time() - path.stat().st_mtime > GOOD_FOR_S:
            return None
        points = json.loads(path.read_text(encoding="utf-8"))
        return CostCurve(tuple(points["nodes"]), tuple(points["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, curve: CostCurve) -> None:
    """Keep the curve if the folder can be written to; it is measured again otherwise."""
    scratch = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps({"nodes": curve.nodes, "seconds": curve.seconds}), encoding="utf-8")
        os.replace(scratch, path)
    except OSError:
        pass
