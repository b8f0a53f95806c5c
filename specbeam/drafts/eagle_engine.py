"""EagleEngine: an `EagleModel` over the nodes of token trees, with a cache of slots of its own."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from specbeam.core.scorer import Output, Request, TreePass
from specbeam.engines import torch_engine
from specbeam.engines.attention import grouped_attention
from specbeam.engines.torch_engine import as_masks, causal
from specbeam.engines.tree_cache import SlotLayer

from .eagle_model import EagleModel

Rows = tuple[Tensor, Tensor, Tensor]  # outputs, and log-probabilities and numbers of the likeliest kept tokens


class EagleEngine:
    """Forwards an `EagleModel` over its own cache of slots: a state beside each token.

    `before` are the states before the tokens of the next call, shape (batch, rows, hidden size). The states of the
    output are the model's outputs, (tokens, hidden size), its likeliest tokens are numbers of `EagleModel.kept`, and
    it has no logits. A prompt's are those at its end.

    Args:
        model: the trained draft.
        width: how many likeliest tokens to give.
    """

    runtime = "torch"

    def __init__(self, model: EagleModel, width: int):
        self.model, self.width, self.name, self.tokens = model, width, type(model).__name__, 0
        self.before = torch.empty(0)
        self._cache = SlotLayer()

    def prefill(self, request: Request) -> Output:
        """Read the left-padded prompts, long ones in parts."""
        seen = request.attention_mask.bool().cpu().numpy()
        positions = np.maximum(seen.cumsum(1) - 1, 0)
        self._cache, self.tokens, found = SlotLayer(), 0, None
        before, length, chunk = self.before, seen.shape[1], torch_engine.CHUNK
        for begin in range(0, length, chunk):
            end = min(begin + chunk, length)
            self.before = before[:, begin:end]
            part = request.input_ids[:, begin:end], causal(seen, begin, end), positions[:, begin:end]
            found = self._forward(*part, rows=1)
        assert found is not None
        self._first = seen.argmax(1)
        return _output(*(each[:, -1] for each in found))

    def forward(self, tree_pass: TreePass) -> Output:
        """One pass over nodes, whose states before them are in `before`."""
        visible = tree_pass.visible.copy()
        visible[np.arange(len(visible)), :, self._first] = False  # there is no state before a prompt's first token
        tokens = torch.from_numpy(tree_pass.tokens)
        found = self._forward(tokens, visible, tree_pass.positions, rows=tokens.shape[1])
        return _output(*map(tree_pass.pick, found))

    def fused(self, states: Tensor) -> Tensor:
        """The target's hidden states, (…, layers, hidden size), as one state, (…, hidden size)."""
        return self.model.fused(states)

    def keep(self, begin: int, slots: np.ndarray) -> None:
        """Move the slots `begin + slots` to `begin`."""
        self._cache.keep(begin, torch.from_numpy(slots))

    def select(self, rows: list[int]) -> None:
        """Keep these rows of the batch."""
        self._cache.select(torch.tensor(rows))
        self._first = self._first[rows]

    def rollback(self, slots: int) -> None:
        """End after this many slots."""
        self._cache.end(min(self._cache.used, slots))

    def close(self) -> None:
        """Free the cache."""
        self._cache, self.before = SlotLayer(), torch.empty(0)

    def _forward(self, input_ids: Tensor, visible: np.ndarray, positions: np.ndarray, rows: int) -> Rows:
        """What the model says at the last `rows` tokens, each of shape (batch, rows, …)."""
        device = self.before.device
        mask = as_masks({"": torch.from_numpy(visible)[:, None].to(device)}, self.before.dtype)
        inputs = self.model.joined(self.before, input_ids.to(device))
        places = torch.from_numpy(np.ascontiguousarray(positions)).to(device)
        query, key, value = self.model.project(inputs, places)
        key, value = self._cache.update(key, value)
        attended, _ = grouped_attention(None, query, key, value, mask)
        self.tokens += input_ids.numel()
        outputs = self.model.finish(inputs, attended.transpose(1, 2))[:, -rows:]
        log_probs = self.model.logits(outputs).float().log_softmax(-1)
        best = log_probs.topk(min(self.width, log_probs.shape[-1]))
        return outputs, best.values, best.indices


def _output(outputs: Tensor, log_probs: Tensor, tokens: Tensor) -> Output:
    return Output(outputs.new_empty(0), [], tokens.cpu().numpy(), log_probs.cpu().numpy(), outputs)
