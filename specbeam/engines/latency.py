"""The latency curve of a target: seconds of a pass by its number of tokens, measured here once and then remembered.

A tree may be as large as a pass over it is cheap, and that differs: on a GPU a hundred tokens cost what one does, on
a CPU with packed weights sixteen cost half as much again. So it is measured: about a second for a small model.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch

from specbeam.compat import input_device
from specbeam.core.scorer import Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree
from specbeam.files import cache_folder, write_atomic

from .draft_size import LatencyCurve

if TYPE_CHECKING:
    from .target import Target

NODES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
CONTEXT = 256  # tokens before the tree; the cost of a few rows hardly depends on it
REPEATS = 4  # at least
MOST_REPEATS = 16
STABLE = 0.98  # the times have settled if two more repeats lower their sum by less than 2 %
GOOD_FOR_S = 7 * 24 * 3600  # a curve that was measured on a busy machine shall not stay for ever
BUSY = 0.2  # share of the processors that others take; what is measured beside so much is not kept
SMALLEST = 20_000_000  # parameters; a smaller model's pass is all overhead, and no measurement finds a slope

# a token more costs 3 % of a pass over one: between a CPU and a GPU
TYPICAL = LatencyCurve((1, 64), (1.0, 2.9))


def latency_of(target: Target) -> LatencyCurve:
    """The curve of `target` as its model is loaded here, out of the cache or measured now.

    The cache is a file for each model, dtype, device, number of threads and version of torch, in `cache_folder()`; it
    is measured again after a week, and by the next process where others kept the machine busy. A model of less than
    `SMALLEST` parameters gets `TYPICAL`, and so does one that takes no tree: its passes cost by the sequence.
    """
    if sum(p.numel() for p in target.model.parameters()) < SMALLEST or target.probe() is not None:
        return TYPICAL
    path = measurement_file(target)
    curve = _read(path)
    if curve is None:
        others = OthersLoad()
        curve = measure_latency(target)
        if others.share() < BUSY:
            with contextlib.suppress(OSError):  # it is measured again where the folder cannot be written to
                write_atomic(path, json.dumps({"nodes": curve.nodes, "seconds": curve.seconds}))
    return curve


class OthersLoad:
    """What other processes take of the processors, from its making on."""

    def __init__(self) -> None:
        self._began = self._seconds()

    def share(self) -> float:
        """From 0 to 1; 0 where the system does not tell."""
        taken, idle = (now - then for now, then in zip(self._seconds(), self._began, strict=True))
        return max(taken, 0.0) / (taken + idle) if taken + idle > 0 else 0.0

    @staticmethod
    def _seconds() -> tuple[float, float]:
        """Seconds of all processors: what other processes used, and what was left."""
        total, own = psutil.cpu_times(), os.times()
        used = total.user + total.system + getattr(total, "nice", 0.0) - own.user - own.system
        return used, total.idle + getattr(total, "iowait", 0.0) + own.user + own.system


def forget_latency(target: Target) -> None:
    """Delete the measured curve: the machine was busy when it was measured."""
    with contextlib.suppress(OSError):  # a read-only cache keeps what it has
        measurement_file(target).unlink(missing_ok=True)


@torch.inference_mode()
def measure_latency(
    target: Target, nodes: tuple[int, ...] = NODES, repeats: int = REPEATS, most_repeats: int = MOST_REPEATS
) -> LatencyCurve:
    """Time passes over trees of these sizes after a prompt of `CONTEXT` tokens; the least of the repeats counts.

    The sizes take turns, so that a slow spell of the machine meets all of them, and there are more than `repeats` as
    long as that finds shorter times.
    """
    model, scorer = target.model, TreeScorer(target.engine())
    ids = torch.arange(CONTEXT, device=input_device(model))[None] % model.config.get_text_config().vocab_size
    taken: dict[int, list[float]] = {size: [] for size in nodes}
    tree = TokenTree(ids[0].tolist())
    scorer.start([tree], Request(ids, torch.ones_like(ids)))
    sums: list[float] = []
    with target.undisturbed():
        for repeat in range(max(repeats, most_repeats) + 1):
            if repeat > max(repeats, 2) and sums[-1] > STABLE * sums[-3]:
                break
            for size in nodes:
                asked = [tree.child(ROOT, token) for token in range(size)]
                scorer.compact([[asked[0]]])
                began = time.perf_counter()
                scorer.score([asked]).logits[-1, -1].item()  # waits for a GPU
                if repeat:  # the first of each size warms up
                    taken[size].append(time.perf_counter() - began)
            sums.append(sum(min(times, default=math.inf) for times in taken.values()))
    scorer.engine.close()
    least = np.maximum.accumulate([min(taken[size]) for size in nodes])
    return LatencyCurve(nodes, tuple(least.tolist()))


def measurement_file(target: Target, folder: str = "costs") -> Path:
    """Where something that was measured of `target` as it is loaded here is kept."""
    model = target.model
    layers = sorted({_layer(module) for module in model.modules()})  # packed and quantized ones have their own kernels
    names = (model.config.to_json_string(), model.dtype, model.device, layers, torch.get_num_threads())
    if target.onnx is not None:
        names += ("onnxruntime", importlib.metadata.version("onnxruntime"))
    if model.device.type == "cuda":
        names += (torch.cuda.get_device_name(model.device), target.recordings is not None)
    machine = (platform.machine(), platform.processor(), os.cpu_count(), torch.__version__)
    key = hashlib.sha256(repr((names, machine)).encode()).hexdigest()[:16]
    return cache_folder() / folder / f"{key}.json"


def fresh(path: Path) -> bool:
    """Whether what was measured is there, and of late. Raises OSError where it is not there."""
    return time.time() - path.stat().st_mtime <= GOOD_FOR_S


def _layer(module: torch.nn.Module) -> str:
    weight = getattr(module, "weight", None)
    kind = f"{type(weight.data).__name__} {weight.dtype}" if isinstance(weight, torch.Tensor) else ""
    return f"{type(module).__name__} {kind}"


def _read(path: Path) -> LatencyCurve | None:
    try:
        if not fresh(path):
            return None
        points = json.loads(path.read_text(encoding="utf-8"))
        return LatencyCurve(tuple(points["nodes"]), tuple(points["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
