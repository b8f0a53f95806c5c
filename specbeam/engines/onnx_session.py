"""Sessions of ONNX Runtime: a graph opened on the weights that PyTorch holds."""

from __future__ import annotations

from collections.abc import Sequence
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
        self._taken = {each.name for each in self._runtime.get_inputs()}
        shapes = {each.name: each.shape for each in self._runtime.get_outputs()}
        self.vocabulary, self._hidden_size = int(shapes["logits"][-1]), shapes.get("states", [0])[-1]
        self._modules, self._versions = _modules(model), _versions(model)

    def run(
        self, inputs: Sequence[Tensor], logits: Tensor, new: Sequence[Tensor], with_states: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """A pass over `inputs`, in the layout's order.

        Logits (batch, rows, vocabulary), and the keys and values of the new tokens, (batch, tokens, heads * head dim)
        each, are written where the caller has room for them. Returns the normalisers of the logits (rows,), the
        likeliest tokens' log-probabilities and the tokens (rows, top) each, and hidden states (batch, tokens, layers,
        hidden size) if asked for.

        Raises RuntimeError, as PyTorch does, where memory does not suffice.
        """
        binding, rows, top = self._runtime.io_binding(), logits.shape[0] * logits.shape[1], inputs[3].shape[0]
        for name, each in zip(self.layout.inputs, inputs, strict=True):
            if name in self._taken:
                binding.bind_input(name, "cpu", 0, _TYPES[each.dtype], each.shape, each.data_ptr())
        found = [torch.empty(rows), torch.empty(rows, top), torch.empty(rows, top, dtype=torch.int64)]
        if with_states:
            found.append(torch.empty(*inputs[0].shape, len(self.layout.state_layers), self._hidden_size))
        names = [name for name in self.layout.outputs if with_states or name != "states"]
        for name, each in zip(names, [logits.flatten(0, 1), *found, *new], strict=True):
            binding.bind_output(name, "cpu", 0, _TYPES[each.dtype], each.shape, each.data_ptr())
        try:
            self._runtime.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's own classes derive from no other
            raise RuntimeError(f"ONNX Runtime: {error}") from error
        return found[0], found[1], found[2], found[3] if with_states else None

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
