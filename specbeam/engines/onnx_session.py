"""Sessions of ONNX Runtime: a graph opened on the weights that PyTorch holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from transformers import PreTrainedModel

from .onnx_export import weights
from .onnx_graph import Graph
from .onnx_threads import open_runtime

_TYPES = {torch.float32: np.float32, torch.int64: np.int64}


class Session:
    """A pass of one model in ONNX Runtime.

    Attributes:
        layout: what goes in and comes out.
        threads: as many as PyTorch had when it was opened.

    Raises what ONNX Runtime raises where a graph is damaged or belongs to another model.
    """

    def __init__(self, graph: Graph, model: PreTrainedModel):
        self.layout, self.threads = graph.layout, torch.get_num_threads()
        held, options = weights(model), onnxruntime.SessionOptions()
        # the session reads them where they are, so they stay as long as it does
        self._weights = {name: held[name].detach().contiguous() for name in graph.weights}
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(each.numpy()) for each in self._weights.values()]
        options.add_external_initializers([*self._weights], values)
        self._runtime: Any = open_runtime(graph.content, options)
        self._known = {each.name for each in (*self._runtime.get_inputs(), *self._runtime.get_outputs())}
        shapes = {each.name: each.shape for each in self._runtime.get_outputs()}
        self.vocabulary, self._hidden_size = int(shapes["logits"][-1]), shapes.get("states", [0])[-1]
        self._modules, self._versions = _modules(model), _versions(model)

    def bind(self, past: Sequence[Tensor]) -> Any:
        """For `run`: what passes share that see these slots, which have to stay where they are in memory."""
        binding = self._runtime.io_binding()
        self._bind(binding.bind_input, self.layout.past, past)
        return binding

    def run(
        self, binding: Any, inputs: Sequence[Tensor], logits: Tensor, with_states: bool
    ) -> tuple[list[Tensor], Tensor | None, list[Tensor]]:
        """A pass over `inputs`, in the layout's order up to its past.

        Logits (batch, rows, vocabulary) are written where the caller has room for them. Returns

        * the normalisers of the logits (rows,), the likeliest tokens' log-probabilities and the tokens (rows, top),
        * hidden states (batch, tokens, layers, hidden size) if asked for,
        * the keys and values of the new tokens, (layers, batch, tokens, heads * head dim) of each bank.

        Raises RuntimeError, as PyTorch does, where memory does not suffice.
        """
        batch, tokens = inputs[0].shape
        rows, top, layout = batch * logits.shape[1], len(inputs[3]), self.layout
        found = [torch.empty(rows), torch.empty(rows, top), torch.empty(rows, top, dtype=torch.int64)]
        states = torch.empty(batch, tokens, len(layout.state_layers), self._hidden_size) if with_states else None
        new = [torch.empty(len(bank) * batch, tokens, width) for width, bank in layout.banks.items()]
        names = [name for name in layout.outputs if with_states or name != "states"]
        outputs = [logits.flatten(0, 1), *found, *([] if states is None else [states]), *new]
        self._bind(binding.bind_input, layout.inputs[: len(inputs)], inputs)
        self._bind(binding.bind_output, names, outputs)
        try:
            self._runtime.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's own classes derive from no other
            raise RuntimeError(f"ONNX Runtime: {error}") from error
        return found, states, [each.unflatten(0, (-1, batch)) for each in new]

    def _bind(self, bind: Callable[..., None], names: Sequence[str], tensors: Sequence[Tensor]) -> None:
        for name, each in zip(names, tensors, strict=True):
            if name in self._known:
                bind(name, "cpu", 0, _TYPES[each.dtype], each.shape, each.data_ptr())

    def serves(self, model: PreTrainedModel) -> bool:
        """Whether the weights of `model` and PyTorch's threads are those that the session was opened on."""
        return self.threads == torch.get_num_threads() and self._versions == _versions(model)

    def knows(self, model: PreTrainedModel) -> bool:
        """Whether `model` has the modules and hooks that it had."""
        return self._modules == _modules(model)


def _versions(model: PreTrainedModel) -> list[tuple[int, int]]:
    """What changes when a weight is trained, set or replaced."""
    return [(each.data_ptr(), each._version) for each in model.parameters()]


def _modules(model: PreTrainedModel) -> list[tuple[type, int]]:
    """Kinds of modules, and how many hooks each has, without those with which transformers collects hidden states."""
    return [
        (
            type(module),
            sum(map(_from_elsewhere, (*module._forward_hooks.values(), *module._forward_pre_hooks.values()))),
        )
        for module in model.modules()
    ]


def _from_elsewhere(hook: Any) -> bool:
    return not str(getattr(hook, "__module__", "")).startswith("transformers.")
