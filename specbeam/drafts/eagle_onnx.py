"""OnnxEagleEngine: an `EagleModel` in ONNX Runtime, which shares its threads with the target."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from specbeam.engines.onnx_cache import Bank
from specbeam.engines.onnx_threads import open_runtime

from .eagle_engine import EagleEngine, Rows
from .eagle_graph import INPUTS, fusing_graph, reading_graph
from .eagle_model import EagleModel

_HIDDEN = np.finfo(np.float32).min


class OnnxEagleEngine(EagleEngine):
    """Reads trees with the graphs of `eagle_graph`; the model stands by with its embedding and its kept tokens."""

    runtime = "onnx"

    def __init__(self, model: EagleModel, width: int):
        super().__init__(model, width)
        self._rates = model.rates.numpy()
        self._fusing, self._reading = open_runtime(fusing_graph(model)), open_runtime(reading_graph(model, width))

    def fused(self, states: Tensor) -> Tensor:
        flat = states.flatten(0, -3)
        (fused,) = self._fusing.run(None, {"states": flat.float().numpy()})
        return torch.from_numpy(fused).reshape(*states.shape[:-2], -1)

    def _forward(self, input_ids: Tensor, visible: np.ndarray, positions: np.ndarray, rows: int) -> Rows:
        config, width = self.model.config, input_ids.shape[1]
        if not self._cache.is_initialized:
            empty = torch.empty(len(input_ids), config.key_heads, 0, config.head_dim)
            self._cache.growth = Bank.growth
            self._cache.lazy_initialization(empty, empty)
        used, past = self._cache.used, self._cache.buffers
        if not past[0].shape[2]:
            past = [each.new_zeros(*each.shape[:2], 1, each.shape[3]) for each in past]
        mask = np.full((len(visible), 1, width, past[0].shape[2] + width), _HIDDEN, dtype=np.float32)
        mask[:, 0, :, :used][visible[..., :used]] = 0
        mask[:, 0, :, -width:][visible[..., used:]] = 0
        angles = positions[..., None].astype(np.float32) * self._rates
        embedded = F.embedding(input_ids, self.model.embedding).float().numpy()
        turns, last = (np.cos(angles), np.sin(angles)), np.arange(width)[-rows:]
        inputs = (embedded, self.before.numpy(), *turns, mask, *(each.numpy() for each in past), last)
        found = self._reading.run(None, dict(zip(INPUTS, inputs, strict=True)))
        outputs, keys, values, log_probs, tokens = map(torch.from_numpy, found)
        self._cache.update(keys, values)
        self.tokens += input_ids.numel()
        return outputs, log_probs, tokens
