"""Changes to an exported graph: weights stand elsewhere, linear layers read them as PyTorch stores them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

PREFIX = "model."  # what the wrapper of an exported pass puts before the names of weights


def weightless(model: Any, weights: Collection[str]) -> bytes:
    """The serialised graph (an `onnx_ir.Model`) with these parameters and buffers named and left out.

    A product with a transposed weight becomes one operator; what the exporter noted of the source code goes.
    """
    import onnx_ir as ir  # type: ignore

    graph = model.graph
    for node in list(graph):
        if node.op_type == "MatMul":
            _transposed_within(ir, node)
    outputs = {value for value in graph.outputs}
    for node in reversed(list(graph)):
        if all(not value.uses() and value not in outputs for value in node.outputs):
            graph.remove(node, safe=True)
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
    model.opset_imports["com.microsoft"] = 1
    return ir.to_proto(model).SerializeToString()


def translated_attention() -> Any:
    """How the exporter writes `tree_attention`.

    ONNX's Attention would take the past apart, but ONNX Runtime then insists that keys and values are put out again.
    """
    from onnxscript import opset23 as op  # type: ignore

    def translation(query, key, value, mask, past_keys, past_values, scale: float):  # type: ignore
        keys, values = op.Concat(past_keys, key, axis=2), op.Concat(past_values, value, axis=2)
        answer, *_ = op.Attention(query, keys, values, mask, scale=scale)
        return answer

    return translation


def _transposed_within(ir: Any, node: Any) -> None:
    """x · Wᵀ as one product, where W is a weight."""
    turned = node.inputs[1].producer()
    if turned is None or turned.op_type != "Transpose" or not turned.inputs[0].is_initializer():
        return
    axes = turned.attributes.get("perm")
    if axes is not None and list(axes.as_ints()) != [1, 0]:
        return
    product = ir.node("FusedMatMul", [node.inputs[0], turned.inputs[0]], {"transB": 1}, domain="com.microsoft")
    ir.convenience.replace_nodes_and_values(
        node.graph, node, [node], [product], list(node.outputs), list(product.outputs)
    )
