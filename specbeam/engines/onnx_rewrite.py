"""What is changed in a graph while and after PyTorch's exporter makes it; the numbers stay as they are.

Weights are left out, linear layers read them as PyTorch stores them, and a pass consists of fewer operators: over one
token it is bound by reading the weights, and after that by the number of operators, each of which costs some
microseconds whatever it does.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

import onnx_ir as ir
from onnxscript import opset23

from .onnx_graph import LAYOUT, Layout

PREFIX = "model."  # what the wrapper of an exported pass puts before the names of weights
_OURS = "com.microsoft"  # ONNX Runtime's own operators


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
    model.metadata_props[LAYOUT] = json.dumps(layout)
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


def simplify(graph: Any) -> None:
    """Change `graph` (an `onnx_ir.Graph`) in place; nodes that nobody reads are removed."""
    for node in list(graph):
        rule = _RULES.get(node.op_type)
        if rule is not None:
            rule(node)
    outputs = {*graph.outputs}
    for node in reversed(list(graph)):
        if all(not value.uses() and value not in outputs for value in node.outputs):
            graph.remove(node, safe=True)


def _matmul(node: Any) -> None:
    """x · Wᵀ as one product, where W is a weight as PyTorch stores it."""
    turned = node.inputs[1].producer()
    if turned is None or turned.op_type != "Transpose" or not turned.inputs[0].is_initializer():
        return
    axes = turned.attributes.get("perm")
    if axes is not None and list(axes.as_ints()) != [1, 0]:
        return
    _replace(node, ir.node("FusedMatMul", [node.inputs[0], turned.inputs[0]], {"transB": 1}, domain=_OURS))


def _reshape(node: Any) -> None:
    """Of two in a row the last one counts, and none if the shape is what it was."""
    (answer,), before = node.outputs, node.inputs[0].producer()
    if before is not None and before.op_type == "Reshape":
        node.replace_input_with(0, before.inputs[0])
    given = node.inputs[0]
    if given.shape is not None and answer.shape is not None and list(given.shape) == list(answer.shape):
        _skip(node)


def _transpose(node: Any) -> None:
    """There and back again is nothing."""
    before = node.inputs[0].producer()
    if before is None or before.op_type != "Transpose":
        return
    first, second = (list(each.attributes["perm"].as_ints()) for each in (before, node))
    if [first[axis] for axis in second] == sorted(first):
        node.replace_input_with(0, before.inputs[0])
        _skip(node)


def _rms_normalization(node: Any) -> None:
    """A residual connection and the norm behind it are one operator, which gives their sum as well."""
    added, scale = node.inputs[0].producer(), node.inputs[1]
    last = node.attributes["axis"].as_int() == -1 if "axis" in node.attributes else True
    if added is None or added.op_type != "Add" or not last or "epsilon" not in node.attributes:
        return
    one, other = (each.shape for each in added.inputs)
    if one is None or other is None or list(one) != list(other) or len(one) != 3 or len(scale.shape or ()) != 1:
        return
    epsilon = node.attributes["epsilon"].as_float()
    both = ir.node(
        "SkipSimplifiedLayerNormalization", [*added.inputs, scale], {"epsilon": epsilon}, domain=_OURS, num_outputs=4
    )
    graph = node.graph
    ir.convenience.replace_nodes_and_values(
        graph, added, [added, node], [both], [added.outputs[0], node.outputs[0]], [both.outputs[3], both.outputs[0]]
    )


_RULES = {
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "RMSNormalization": _rms_normalization,
}


def _replace(node: Any, other: Any) -> None:
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [other], list(node.outputs), list(other.outputs))


def _skip(node: Any) -> None:
    """What read the answer of `node` reads what `node` read; an output of the graph keeps its name and its node."""
    (answer,) = node.outputs
    for user, index in tuple(answer.uses()):
        user.replace_input_with(index, node.inputs[0])
