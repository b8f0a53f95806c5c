"""Which engine a target gets: what was asked for, or what is faster for it on this machine.

Of a model in float32 on a CPU, passes in ONNX Runtime and in PyTorch (with packed layers where that is possible) are
timed once, at a few sizes, and the faster engine is remembered for a week.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext

import psutil

from specbeam.files import write_atomic

from .latency import SMALLEST, fresh, measure_latency, measurement_file
from .packing import packable, packed_meanwhile
from .target import Target

ENGINES = ("auto", "torch", "onnx")
SIZES = (1, 8, 24)  # tokens of the passes that are timed
REPEATS = 4
_SPACE = 1.3  # times the weights: ONNX Runtime lays them out anew, and an export needs room besides


def choose_engine(target: Target, engine: str, state_layers: Sequence[int] = ()) -> bool:
    """Have `target` run in the engine that is wanted, and say whether that is ONNX Runtime.

    Args:
        engine: "onnx" warns, in one line, where PyTorch has to serve; "auto" is the faster of the two, and PyTorch
            without a word where ONNX Runtime never serves (a GPU, another dtype) or a pass takes hardly any time.
        state_layers: hidden states that the draft will ask for.
    """
    layers = tuple(state_layers)
    if engine == "onnx":
        try:
            target.use_onnx(layers)
        except ValueError as error:
            name = type(target.model).__name__
            warnings.warn(f"PyTorch serves {name}, as ONNX Runtime cannot: {error}", stacklevel=3)
    elif engine == "auto" and _worth_a_try(target):
        _take_the_faster(target, layers)
    return target.onnx is not None


def _worth_a_try(target: Target) -> bool:
    from .onnx_export import why_not  # ONNX is imported for those who use it

    numbers = sum(p.numel() for p in target.model.parameters())
    return numbers >= SMALLEST and target.probe() is None and why_not(target.model, target.traits) is None


def _take_the_faster(target: Target, state_layers: tuple[int, ...]) -> None:
    file = measurement_file(target, "engines")
    known = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(file.read_text(encoding="utf-8"))["engine"] if fresh(file) else None
    if known == "torch":
        return
    size = sum(p.numel() * p.element_size() for p in target.model.parameters())
    name, verdict = type(target.model).__name__, {"engine": "onnx"}
    needed, free = _SPACE * size / 1e9, psutil.virtual_memory().available / 1e9
    if free < needed:
        _say(f"PyTorch serves {name}: ONNX Runtime would need {needed:.1f} GB, and {free:.1f} GB are free")
        return
    try:
        target.use_onnx(state_layers)
    except ValueError as error:
        _say(f"PyTorch serves {name}, as ONNX Runtime cannot: {error}")
        verdict = {"engine": "torch", "why": str(error)}
    if known is None:
        if target.onnx is not None and not _onnx_wins(target, verdict):
            target.use_torch()
            verdict["engine"] = "torch"
        with contextlib.suppress(OSError):  # it is measured again where the folder cannot be written to
            write_atomic(file, json.dumps(verdict))


def _onnx_wins(target: Target, notes: dict) -> bool:
    """Time both; the seconds are noted."""
    model, passes = target.model, target.onnx
    mine = measure_latency(target, SIZES, REPEATS, REPEATS).seconds
    target.use_torch()
    with packed_meanwhile(model) if packable(model) else nullcontext():
        theirs = measure_latency(target, SIZES, REPEATS, REPEATS).seconds
    target.onnx = passes
    notes |= {"nodes": SIZES, "onnx": mine, "torch": theirs}
    return sum(mine) < sum(theirs)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
