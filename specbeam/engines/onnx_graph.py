"""An exported graph: what goes in and comes out, and what is changed in it after PyTorch's exporter has made it.

Weights stand elsewhere, and linear layers read them as PyTorch stores them.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import onnx
import onnx_ir as ir
from onnxscript import opset23

from .onnx_rewrite import simplify

PREFIX = "model."  # what the wrapper of an exported pass puts before the names of weights
_LAYOUT = "specbeam"  # the entry of a graph's metadata that tells its layout


class Layout(NamedTuple):
    """What goes into the graph and comes out of it, in this order."""

    kinds: list[str]  # of layers, one mask each
    shapes: list[tuple[int, int]]  # key heads and head dim, of the keys and the values of every layer in turn
    state_layers: tuple[int, ...]

    @property
    def inputs(self) -> list[str]:
        masks = [f"mask_{i}" for i in range(len(self.kinds))]
        return ["input_ids", "position_ids", "rows", "top", *masks, *self.past]

    @property
    def past(self) -> list[str]:
        return [f"past_{i}" for i in range(len(self.shapes))]

    @property
    def outputs(self) -> list[str]:
        states = ["states"] if self.state_layers else []
        return ["logits", "log_normalizers", "top_log_probs", "top_tokens", *states, *self.new]

    @property
    def new(self) -> list[str]:
        return [f"new_{width}" for width in self.banks]

    @property
    def banks(self) -> dict[int, list[int]]:
        """By heads * head dim, which of `shapes` have that width: the new ones of these come out together."""
        banks: dict[int, list[int]] = {}
        for number, (heads, dim) in enumerate(self.shapes):
            banks.setdefault(heads * dim, []).append(number)
        return banks


class Graph:
    """A pass as ONNX serialises it, without its weights.

    Attributes:
        layout: what goes in and comes out.
        weights: the names of the parameters and buffers that it reads.

    Raises ValueError, or whatever protobuf raises, for content that is damaged or not of this kind.
    """

    def __init__(self, content: bytes):
        model = onnx.load_from_string(content)
        notes = {each.key: each.value for each in model.metadata_props}
        if _LAYOUT not in notes:
            raise ValueError("the graph does not tell its layout")
        kinds, shapes, state_layers = json.loads(notes[_LAYOUT])
        self.content, self.layout = content, Layout(kinds, [*map(tuple, shapes)], tuple(state_layers))
        elsewhere = onnx.TensorProto.EXTERNAL
        self.weights = [each.name for each in model.graph.initializer if each.data_location == elsewhere]


def weightless(model: Any, weights: Collection[str], layout: Layout) -> bytes:
    """The serialised graph (an `onnx_ir.Model`) with these parameters and buffers named and left out.

    The graph is simplified on the way; what the exporter noted of the source code goes.
    """
    graph = model.graph
    simplify(graph)
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
    for name, value in list(graph.initializers.items()):
        value.metadata_props.clear()
        if not value.uses():
            del graph.initializers[name]
        elif name.removeprefix(PREFIX) in weights:
            tensor = value.const_value
            value.const_value = ir.ExternalTensor(
                "weights", 0, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=name.removeprefix(PREFIX)
            )
            value.name = name.removeprefix(PREFIX)
    model.metadata_props.clear()
    model.metadata_props[_LAYOUT] = json.dumps(layout)
    model.opset_imports["com.microsoft"] = 1
    return ir.to_proto(model).SerializeToString()


def translated_attention() -> Any:
    """How the exporter writes `tree_attention`.

    ONNX's Attention would take the past apart, but ONNX Runtime then insists that keys and values are put out again.
    """

    op: Any = opset23

    def translation(query, key, value, mask, past_keys, past_values, heads: int, key_heads: int, scale: float):  # type: ignore
        keys, values = op.Concat(past_keys, key, axis=1), op.Concat(past_values, value, axis=1)
        answer, *_ = op.Attention(query, keys, values, mask, scale=scale, q_num_heads=heads, kv_num_heads=key_heads)
        return answer

    return translation
