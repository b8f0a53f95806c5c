"""Sessions of ONNX Runtime: a graph from the cache or exported now, opened on the weights that PyTorch holds.

A graph has no weights, so it is a small file, serves every model of its shape, and is found by what determines it: the
configuration and code of the model and the versions of what made it. Written aside and renamed, it is whole or not
there; one that cannot be read is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import logging
import sys
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.compat import ATTENTION
from specbeam.files import cache_folder, write_atomic

from .families import Traits, text_config
from .onnx_export import OPSET, Layout, exported, layout_of, weights

FORMAT = 1  # increase it when graphs change, so that those of before are not used
_TYPES = {torch.float32: np.float32, torch.int64: np.int64}
_MADE_BY = ("torch", "transformers", "onnxscript")


class Session:
    """A pass of one model in ONNX Runtime.

    Attributes:
        layout: what goes in and comes out.
        runtime: the `onnxruntime.InferenceSession`.
    """

    def __init__(self, graph: bytes, layout: Layout, model: PreTrainedModel):
        import onnxruntime  # type: ignore

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        held = weights(model)
        # the session reads them where they are, so they stay as long as it does
        self._weights = {name: held[name].detach() for name in _external(graph)}
        values = [
            onnxruntime.OrtValue.ortvalue_from_numpy(each.contiguous().numpy()) for each in self._weights.values()
        ]
        options.add_external_initializers([*self._weights], values)
        self.runtime: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._taken = {each.name for each in self.runtime.get_inputs()}
        self.layout, self.vocabulary = layout, int(self.runtime.get_outputs()[0].shape[1])
        self._seen = _signature(model)

    def run(
        self, inputs: Sequence[Tensor], logits: Tensor, with_states: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, list[Tensor]]:
        """A pass over `inputs`, in the layout's order. Logits are written where the caller has room for them.

        Returns their normalisers (rows,), the likeliest tokens' log-probabilities and the tokens (rows, top) each,
        hidden states (batch, tokens, layers, hidden size) if asked for, and the new keys and values.
        """
        binding, rows = self.runtime.io_binding(), logits.shape[0] * logits.shape[1]
        inputs = [each.contiguous() for each in inputs]  # which stay until the pass is over
        for name, each in zip(self.layout.inputs, inputs, strict=True):
            if name in self._taken:
                binding.bind_input(name, "cpu", 0, _TYPES[each.dtype], tuple(each.shape), each.data_ptr())
        binding.bind_output("logits", "cpu", 0, np.float32, (rows, self.vocabulary), logits.data_ptr())
        names = [name for name in self.layout.outputs[1:] if with_states or name != "states"]
        for name in names:
            binding.bind_output(name, "cpu")
        self.runtime.run_with_iobinding(binding)
        found = [torch.from_numpy(each) for each in binding.copy_outputs_to_cpu()[1:]]
        states = found.pop(3) if with_states else None
        return found[0], found[1], found[2], states, found[3:]

    def fits(self, model: PreTrainedModel) -> bool:
        """Whether the weights and modules of `model` are still those that the session was opened on."""
        return self._seen == _signature(model)


def open_session(model: PreTrainedModel, traits: Traits, state_layers: tuple[int, ...]) -> Session:
    """A session for passes of `model` that return these hidden states.

    Raises whatever PyTorch's exporter or ONNX Runtime raises where they cannot.
    """
    layout = layout_of(model, traits, state_layers)
    path = cache_folder() / "graphs" / f"{_key(model, layout)}.onnx.z"
    with contextlib.suppress(Exception):  # not there, or damaged: it is made anew
        return Session(zlib.decompress(path.read_bytes()), layout, model)
    print(f"Exporting {type(model).__name__} for ONNX Runtime (once, about a minute) …", file=sys.stderr, flush=True)
    with _quiet():
        graph = exported(model, traits, layout)
    session = Session(graph, layout, model)
    with contextlib.suppress(OSError):  # it is exported again where the folder cannot be written to
        write_atomic(path, zlib.compress(graph, 9))
    return session


def _external(graph: bytes) -> list[str]:
    """The names of the weights that a graph does without."""
    import onnx  # type: ignore

    initializers = onnx.load_from_string(graph).graph.initializer
    return [each.name for each in initializers if each.data_location == onnx.TensorProto.EXTERNAL]


def _key(model: PreTrainedModel, layout: Layout) -> str:
    config, kind = model.config.to_dict(), type(model)
    for name in ("_name_or_path", "name_or_path", "transformers_version", "dtype", "torch_dtype"):
        config.pop(name, None)
    code: Any = sys.modules[kind.__module__]
    with contextlib.suppress(OSError, TypeError):
        code = inspect.getsource(code)
    versions = [importlib.metadata.version(name) for name in _MADE_BY]
    attention = getattr(text_config(model), ATTENTION, None)
    shapes = [(name, tuple(each.shape)) for name, each in weights(model).items()]
    parts = (
        FORMAT,
        OPSET,
        versions,
        kind.__qualname__,
        code,
        sorted(map(str, config.items())),
        attention,
        layout,
        shapes,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _signature(model: PreTrainedModel) -> list[Any]:
    """What changes when a weight is trained, set or replaced, or a module or hook is added."""
    held: list[Tensor] = list(model.parameters())
    modules = [(type(module), len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()]
    return [*((each.data_ptr(), each._version) for each in held), *modules]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporter says of packages that it does not need and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
