"""An `EagleModel` as two ONNX graphs: one fuses the target's hidden states, the other reads tokens of a tree.

They are written node by node, which takes no time, where an export would take seconds at every load. The weights of
linear layers are rounded: a draft that is rounded guesses a little worse, and what it guesses is verified as ever.
Most have 8 bits with a scale an output, which is fastest for the ten rows of a level with four beams; rows then share
one scale too. The target's states, whose largest number is up to 500 times the median one in SmolLM2-135M's, are read
with 4 bits and a scale for each block of inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from .eagle_model import EagleModel

BITS = 4  # of the weights that read the target's states
BLOCK = 32  # of those weights, how many share a scale
_OPSETS = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]


class _Builder:
    """Collects nodes and weights; every method appends one operator and returns the name of its answer."""

    def __init__(self, model: EagleModel):
        self.model, self.nodes, self.weights, self._count = model, [], [], 0

    def node(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{self._count + i}" for i in range(outputs)]
        self._count += outputs
        self.nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def weight(self, value: np.ndarray, name: str) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def norm(self, rows: str, name: str | None = None) -> str:
        """By the root mean square, with the weight of that name if there is one."""
        size, scale = self.model.config.hidden_size, f"{name or 'plain'}_norm"
        value = np.ones(size, np.float32) if name is None else _numbers(getattr(self.model, scale))
        return self.node("RMSNormalization", rows, self.weight(value, scale), epsilon=self.model.config.eps)

    def linear(self, rows: str, name: str, in_blocks: bool = False) -> str:
        layer: Any = getattr(self.model, name)
        outputs, inputs = layer.weight.shape
        numbers, scales = (rounded_in_blocks if in_blocks else rounded)(_numbers(layer.weight))
        parts = [self.weight(numbers, f"{name}.weight"), self.weight(scales, f"{name}.scales")]
        if in_blocks:
            options = {"K": inputs, "N": outputs, "bits": BITS, "block_size": BLOCK, "accuracy_level": 4}
            answer = self.node("MatMulNBits", rows, *parts, domain="com.microsoft", **options)
        else:
            parts.append(self.weight(np.zeros(outputs, np.int8), f"{name}.zeros"))
            answer = self.node("DynamicQuantizeMatMul", rows, *parts, domain="com.microsoft")
        if layer.bias is None:
            return answer
        return self.node("Add", answer, self.weight(_numbers(layer.bias), f"{name}.bias"))

    def graph(self, inputs: dict[str, list], outputs: dict[str, tuple[str, list]]) -> bytes:
        for name, (value, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        given = [_value(name, shape) for name, shape in inputs.items()]
        found = [_value(name, shape) for name, (_, shape) in outputs.items()]
        graph = helper.make_graph(self.nodes, "eagle", given, found, self.weights)
        return helper.make_model(graph, opset_imports=_OPSETS, ir_version=11).SerializeToString()


def fusing_graph(model: EagleModel) -> bytes:
    """states (rows, layers, hidden size) -> fused (rows, hidden size)."""
    build, config = _Builder(model), model.config
    flat = build.node("Flatten", build.norm("states"), axis=1)
    shape = ["rows", len(config.layers), config.hidden_size]
    fused = build.linear(flat, "fuse", in_blocks=True)
    return build.graph({"states": shape}, {"fused": (fused, ["rows", config.hidden_size])})


def reading_graph(model: EagleModel, width: int) -> bytes:
    """One call of the layer over new rows and the slots so far; the inputs are those of `INPUTS`.

    Outputs: the layer's output (batch, scored rows, hidden size), new keys and values (batch, key heads, rows, head
    dim), and of each scored row the `width` likeliest kept tokens with their log-probabilities.
    """
    build, config = _Builder(model), model.config
    size, heads, keys, dim = config.hidden_size, config.heads, config.key_heads, config.head_dim
    joined = build.node("Concat", build.norm("embedded", "embedding"), build.norm("before", "state"), axis=-1)
    inputs = build.linear(joined, "join")
    mixed = build.linear(build.norm(inputs, "attention"), "qkv")
    apart = build.weight(np.array([0, 0, heads + 2 * keys, dim]), "apart")
    turnable = build.node("Transpose", build.node("Reshape", mixed, apart), perm=[0, 2, 1, 3])
    parts = build.weight(np.array([heads, keys, keys]), "parts")
    query, key, value = build.node("Split", turnable, parts, axis=1, outputs=3)
    query, key = (build.node("RotaryEmbedding", each, "cosines", "sines") for each in (query, key))
    all_keys = build.node("Concat", "past_keys", key, axis=2)
    all_values = build.node("Concat", "past_values", value, axis=2)
    attended = build.node("Attention", query, all_keys, all_values, "mask", scale=dim**-0.5)
    together = build.weight(np.array([0, 0, heads * dim]), "together")
    flat = build.node("Reshape", build.node("Transpose", attended, perm=[0, 2, 1, 3]), together)
    hidden = build.node("Add", inputs, build.linear(flat, "out"))
    halves = build.weight(np.array([config.intermediate_size] * 2), "halves")
    gate, up = build.node("Split", build.linear(build.norm(hidden, "mlp"), "gate_up"), halves, axis=-1, outputs=2)
    gated = build.node("Mul", build.node("QuickGelu", gate, domain="com.microsoft", alpha=1.0), up)  # x · sigmoid(x)
    output = build.node("Gather", build.node("Add", hidden, build.linear(gated, "down")), "rows", axis=1)
    logits = build.linear(build.norm(output, "head"), "head")
    if model.after_head.scale != 1:
        logits = build.node("Mul", logits, build.weight(np.array([model.after_head.scale], np.float32), "scale"))
    if (cap := model.after_head.cap) is not None:
        capped = build.node("Tanh", build.node("Div", logits, build.weight(np.array([cap], np.float32), "cap")))
        logits = build.node("Mul", capped, "cap")
    log_probs = build.node("LogSoftmax", logits, axis=-1)
    count = build.weight(np.array([min(width, len(model.kept))]), "count")
    best, tokens = build.node("TopK", log_probs, count, outputs=2)
    rows, past = ["batch", "rows"], ["batch", keys, "slots", dim]
    new = ["batch", keys, "rows", dim]
    given = {name: [*rows, size] for name in ("embedded", "before")} | {
        name: [*rows, dim // 2] for name in ("cosines", "sines")
    }
    return build.graph(
        {**given, "mask": ["batch", 1, "rows", "all"], "past_keys": past, "past_values": past, "rows": ["scored"]},
        {
            "output": (output, ["batch", "scored", size]),
            "new_keys": (key, new),
            "new_values": (value, new),
            "top_log_probs": (best, ["batch", "scored", "width"]),
            "top_tokens": (tokens, ["batch", "scored", "width"]),
        },
    )


def _value(name: str, shape: list) -> Any:
    kind = TensorProto.INT64 if name in ("rows", "top_tokens") else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, shape)


INPUTS = ("embedded", "before", "cosines", "sines", "mask", "past_keys", "past_values", "rows")


def rounded(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A weight (outputs, inputs) as DynamicQuantizeMatMul takes it: int8 (inputs, outputs), and a scale an output."""
    scales = np.abs(weight).max(-1) / 127
    return np.round(weight.T / np.where(scales == 0, 1, scales)).astype(np.int8), scales.astype(np.float32)


def rounded_in_blocks(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A weight (outputs, inputs) as MatMulNBits takes it: two numbers in a byte, and a scale a block.

    Blocks run along the inputs and the last is filled up with zeros. Numbers are offset by half their range.
    """
    outputs, inputs = weight.shape
    blocks = -(-inputs // BLOCK)
    padded = np.zeros((outputs, blocks * BLOCK), np.float32)
    padded[:, :inputs] = weight
    padded = padded.reshape(outputs, blocks, BLOCK)
    middle = 2 ** (BITS - 1)
    scales = np.abs(padded).max(-1, keepdims=True) / (middle - 1)
    numbers = np.round(padded / np.where(scales == 0, 1, scales)) + middle
    numbers = numbers.clip(0, 2 * middle - 1).astype(np.uint8)
    packed = numbers[..., 0::2] | (numbers[..., 1::2] << 4)  # the first of two in the lower half
    return packed, scales.astype(np.float32).reshape(outputs, blocks)


def _numbers(weight: Tensor) -> np.ndarray:
    return weight.detach().float().numpy()
