"""OnnxEagleEngine: an `EagleModel` in ONNX Runtime, which shares its threads with the target."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor
from torch.nn import functional as F

from specbeam.engines.onnx_threads import session_options
from specbeam.engines.torch_engine import as_masks

from .eagle_engine import EagleEngine, Rows
from .eagle_graph import INPUTS, fusing_graph, reading_graph
from .eagle_model import EagleModel


class OnnxEagleEngine(EagleEngine):
    """Reads trees with the graphs of `eagle_graph`; the model stands by with its embedding and its kept tokens."""

    runtime = "onnx"

    def __init__(self, model: EagleModel, width: int):
        super().__init__(model, width)
        self._fusing, self._reading = _session(fusing_graph(model)), _session(reading_graph(model, width))

    def fused(self, states: Tensor) -> Tensor:
        flat = states.flatten(0, -3)
        (fused,) = self._fusing.run(None, {"states": flat.float().numpy()})
        return torch.from_numpy(fused).reshape(*states.shape[:-2], -1)

    def _forward(self, input_ids: Tensor, visible: np.ndarray, positions: np.ndarray, rows: int) -> Rows:
        config, width = self.model.config, input_ids.shape[1]
        if not self._cache.is_initialized:
            empty = torch.empty(len(input_ids), config.key_heads, 0, config.head_dim)
            self._cache.lazy_initialization(empty, empty)
        used, past = self._cache.used, self._cache.buffers
        if not past[0].shape[2]:
            past = [each.new_zeros(*each.shape[:2], 1, each.shape[3]) for each in past]
        shown = np.zeros((*visible.shape[:2], past[0].shape[2] + width), dtype=bool)
        shown[..., :used], shown[..., -width:] = visible[..., :used], visible[..., used:]
        angles = torch.from_numpy(np.ascontiguousarray(positions))[..., None] * self.model.rates
        embedded = F.embedding(input_ids, self.model.embedding).float()
        mask = as_masks({"": torch.from_numpy(shown)[:, None]}, torch.float32)
        inputs = (embedded, self.before, angles.cos(), angles.sin(), mask, *past, torch.arange(width)[-rows:])
        found = self._reading.run(None, {name: each.numpy() for name, each in zip(INPUTS, inputs, strict=True)})
        outputs, keys, values, log_probs, tokens = map(torch.from_numpy, found)
        self._cache.update(keys, values)
        self.tokens += input_ids.numel()
        return outputs, log_probs, tokens


def _session(graph: bytes) -> Any:
    return onnxruntime.InferenceSession(graph, session_options(), providers=["CPUExecutionProvider"])
