"""Passes recorded as CUDA graphs and replayed.

A pass over a few tokens is hundreds of small kernels, and a GPU runs them faster than Python launches them. A CUDA
graph launches them all at once. It repeats the very same work on the same memory, so a pass gets a fixed shape: its
rows and slots are rounded up, what it reads lies in tensors that stay where they are, and its mask hides what is too
much. The first pass of a shape is an ordinary one, the second is recorded, and the third is compared with an ordinary
one: a model that hides a number of its first pass somewhere is found out, and its passes are launched one by one.

Recordings outlive a decode and serve the next one on the same model, as long as nothing about the model has changed
(`model_state`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from .memory import ran_out
from .tree_cache import TreeCache

ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96)  # of a pass; beyond them multiples of 32
SLOTS = 256  # that a pass sees: a multiple of this many
MOST_SHAPES = 32  # recordings at a time
MOST_KEPT = 2**29  # bytes of keys and values that are kept for the next decode
DEVICES = {"cuda"}

Inputs = dict[str, Tensor]
Run = Callable[[Inputs], tuple[Tensor, ...]]


class Recordings:
    """That the passes of a model are to be recorded, and what is kept of it between two decodes.

    Raises ValueError unless all of the model lies on one CUDA device.
    """

    def __init__(self, model: nn.Module):
        devices = {parameter.device for parameter in model.parameters()}
        if len(devices) != 1 or next(iter(devices)).type not in DEVICES:
            where = ", ".join(sorted(map(str, devices)))
            raise ValueError(f"cuda_graphs=True needs a model on one CUDA device, and this one lies on {where}.")
        self.refused = False  # whether something has spoken against it since
        self._idle: GraphedPasses | None = None

    def take(self, model: nn.Module, batch: int) -> GraphedPasses | None:
        """Passes for a decode of `batch` prompts; None if they are not recorded after all."""
        if self.refused:
            return None
        passes, self._idle = self._idle, None
        if passes is None or not passes.again(model, batch):
            passes = None  # its memory is free before the new one takes some
            passes = GraphedPasses(model, self)
        return passes

    def give_back(self, passes: GraphedPasses) -> None:
        """The decode is over: the passes serve the next one, unless they take too much memory."""
        if not self.refused and passes.bytes() <= MOST_KEPT:
            self._idle = passes

    def refuse(self, model: nn.Module | None, reason: str) -> None:
        """Launch passes one by one from now on, and say so."""
        self.refused, self._idle = True, None
        warnings.warn(
            f"passes of {type(model).__name__} are not recorded as CUDA graphs ({reason}). The results are the same, "
            "a pass takes longer; without cuda_graphs=True the attempt is saved.",
            stacklevel=2,
        )


def rounded(rows: int) -> int:
    """How many rows a pass over so many gets."""
    return next((size for size in ROWS if size >= rows), -(-rows // 32) * 32)


class GraphedPasses:
    """The recorded passes of one model over one cache, by shape.

    Args:
        model: a causal LM.
        recordings: those of the model, to say when its passes cannot be recorded.
    """

    def __init__(self, model: nn.Module, recordings: Recordings):
        self.cache, self._recordings = TreeCache(), recordings
        self._device = next(model.parameters()).device
        self._model, self._state = ref(model), model_state(model)
        self._shapes: dict[Any, _Shape] = {}
        self._pool: Any = None
        self._where: list[int] = []

    def again(self, model: nn.Module, batch: int) -> bool:
        """Begin a decode of `batch` prompts; whether these recordings can still be used for it."""
        if self._state != model_state(model):
            return False
        return all([layer.again(batch) for layer in self.cache.layers])

    def bytes(self) -> int:
        """What the cache takes."""
        return sum(buffer.nbytes for layer in self.cache.layers for buffer in layer.buffers)

    def room(self, slots: int) -> int:
        """How many slots a pass sees that uses so many; there is room for them, and one more, afterwards."""
        shown = -(-slots // SLOTS) * SLOTS
        for layer in self.cache.layers:
            layer.stay = True
            layer.reserve(shown + 1, shown // 2)
        return shown

    @property
    def spare(self) -> int:
        """The slot where rows go that stand for nothing: no pass sees it."""
        return self.cache.layers[0].buffers[0].shape[2] - 1

    def __call__(self, run: Run, inputs: Inputs, shown: int) -> tuple[Tensor, ...]:
        """What `run(inputs)` returns, from a recording if there is one.

        Args:
            run: the pass, from inputs on the device; it must be the same function at every call.
            inputs: tensors on the CPU; `places` (rows,) are the slots that are written.
            shown: slots that the pass sees.
        """
        layers = self.cache.layers
        where = [buffer.data_ptr() for layer in layers for buffer in layer.buffers]
        if where != self._where or len(self._shapes) >= MOST_SHAPES:
            self._where = where
            self._shapes.clear()
        key = tuple((name, tensor.shape) for name, tensor in inputs.items()), shown
        shape = self._shapes.get(key)
        if shape is None:
            here = {name: tensor.to(self._device, copy=True) for name, tensor in inputs.items()}
            shape = self._shapes[key] = _Shape(here)
        else:
            for name, tensor in inputs.items():
                shape.inputs[name].copy_(tensor, non_blocking=True)
        for layer in layers:
            layer.fixed = (shape.inputs["places"], shown)
        try:
            with torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext():
                return self._answer(shape, run)
        finally:
            for layer in layers:
                layer.fixed = None

    def _answer(self, shape: _Shape, run: Run) -> tuple[Tensor, ...]:
        shape.calls += 1
        if shape.calls == 1 or self._recordings.refused:
            return run(shape.inputs)
        if shape.graph is None:
            try:
                if self._pool is None:
                    self._pool = new_pool()
                shape.graph, shape.outputs = record(run, shape.inputs, self._pool)
            except RuntimeError as error:
                reason = "memory does not suffice" if ran_out(error) else str(error).splitlines()[0]
                self._refuse(reason)
                return run(shape.inputs)
        shape.graph.replay()
        answer = tuple(each.clone() for each in shape.outputs)
        if shape.calls == 3:
            plain = run(shape.inputs)
            if not all(map(_alike, answer, plain)):
                self._refuse("a recorded pass differs from an ordinary one")
                return plain
        return answer

    def _refuse(self, reason: str) -> None:
        self._shapes.clear()
        self._recordings.refuse(self._model(), reason)


class _Shape:
    def __init__(self, inputs: Inputs):
        self.inputs = inputs
        self.calls = 0
        self.graph: Any = None
        self.outputs: tuple[Tensor, ...] = ()


def new_pool() -> Any:
    """Memory that recordings share: they never run at the same time."""
    return torch.cuda.graph_pool_handle()


def record(run: Run, inputs: Inputs, pool: Any) -> tuple[Any, tuple[Tensor, ...]]:
    """A graph of `run(inputs)`, and where its replays leave their outputs."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        outputs = run(inputs)
    return graph, outputs


def _alike(one: Tensor, other: Tensor) -> bool:
    """Equal up to the rounding of kernels that may be others."""
    eps = torch.finfo(one.dtype).eps
    scale = other.abs().max().clamp(min=1e-6)
    return bool((one - other).abs().max() <= 64 * eps * scale)


_PLAIN = {bool, int, float, str, type(None), torch.dtype, torch.device}


def model_state(model: nn.Module) -> int:
    """A number that changes with whatever a pass of `model` may depend on: a replay would not notice.

    That is where its weights lie, and every plain attribute of its modules and configuration (the switches of adapters,
    say).
    """
    state: list[Any] = []
    _collect(model, set(), state)
    return hash(tuple(state))


def _collect(thing: Any, seen: set[int], state: list[Any]) -> None:
    if type(thing) in _PLAIN:
        state.append(thing)
    elif isinstance(thing, Tensor):
        state.append(thing.data_ptr())
    elif isinstance(thing, dict):
        state.extend(thing)
        for value in thing.values():
            _collect(value, seen, state)
    elif isinstance(thing, list | tuple):
        for value in thing:
            _collect(value, seen, state)
    elif isinstance(thing, nn.Module | PretrainedConfig):
        if id(thing) not in seen:
            seen.add(id(thing))
            state.append(type(thing))
            for name, value in vars(thing).items():
                if not isinstance(value, dict) or value:  # most dictionaries of a module are empty
                    state.append(name)
                    _collect(value, seen, state)
    else:
        state.append(id(thing))
