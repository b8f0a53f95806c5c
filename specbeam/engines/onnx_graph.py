"""An exported graph as it is kept: what goes in and comes out, and which weights it reads. They stand elsewhere."""

from __future__ import annotations

import json
from typing import NamedTuple

import onnx

LAYOUT = "specbeam"  # the entry of a graph's metadata that tells its layout


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
        if LAYOUT not in notes:
            raise ValueError("the graph does not tell its layout")
        kinds, shapes, state_layers = json.loads(notes[LAYOUT])
        self.content, self.layout = content, Layout(kinds, [*map(tuple, shapes)], tuple(state_layers))
        elsewhere = onnx.TensorProto.EXTERNAL
        self.weights = [each.name for each in model.graph.initializer if each.data_location == elsewhere]
