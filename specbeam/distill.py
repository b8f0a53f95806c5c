"""Train a draft for a target on what the target wrote (`answers.py`).

The loss is the cross-entropy against the target's own distribution at every position, at several depths of guessing
at once: the draft is unrolled over its own outputs, so that what it says three guesses further is trained as well
(Li et al. 2025, EAGLE-3, "training-time test", section 3.2). The hidden states lie in the shards; the target itself is
not run.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from .feature_model import FeatureModel

DEPTHS = 4  # how many guesses in a row are trained
DISCOUNT = 0.8  # what a depth further counts in the loss


@dataclass
class Progress:
    """How far a training is: goes into the checkpoint, and the curves into the plot."""

    seconds: float = 0.0
    steps: int = 0
    positions: int = 0  # positions seen, each at every depth
    losses: list[tuple[float, float]] = field(default_factory=list)  # (seconds, loss at depth 1)
    agreements: list[tuple[float, list[float]]] = field(default_factory=list)  # (seconds, top-1 by depth)


class Shards:
    """The texts in a folder; new shards are found while they are being written."""

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self._draw = folder, random.Random(seed)
        self._files: dict[Path, Any] = {}

    def paths(self) -> list[Path]:
        found = sorted(self.folder.glob("[0-9]*.safetensors"))
        if not found:
            raise ValueError(f"{self.folder} holds no shards; write some with `specbeam distill`, or give its folder")
        return found

    def batch(self, positions: int) -> dict[str, Tensor]:
        """About `positions` positions of one shard: tokens (rows, length), ends (rows,), features."""
        path = self._draw.choice(self.paths())
        if path not in self._files:
            self._files[path] = safe_open(path, framework="pt")
        file = self._files[path]
        ends = file.get_tensor("ends")
        rows = max(1, round(positions * len(ends) / int(ends.sum())))
        first = self._draw.randrange(max(len(ends) - rows, 0) + 1)
        chosen = slice(first, first + rows)
        return {
            "tokens": file.get_slice("tokens")[chosen].long(),
            "ends": ends[chosen],
            "features": file.get_slice("features")[chosen],
        }

    def counts(self, limit: int = 64) -> Counter[int]:
        """How often each token occurs in the first `limit` shards."""
        found: Counter[int] = Counter()
        for path in self.paths()[:limit]:
            with safe_open(path, framework="pt") as file:
                tokens, ends = file.get_tensor("tokens"), file.get_tensor("ends")
            for row, end in zip(tokens.tolist(), ends.tolist(), strict=True):
                found.update(row[:end])
        return found


def frequent(counts: Counter[int], size: int, vocabulary: int, always: Sequence[int] = ()) -> Tensor:
    """The `size` most frequent tokens in ascending order, `always` among them; ties go to the smaller id."""
    ranked = sorted(range(vocabulary), key=lambda token: (token not in always, -counts[token], token))
    return torch.tensor(sorted(ranked[:size]))


def unroll(model: FeatureModel, states: Tensor, tokens: Tensor, depths: int) -> Iterator[Tensor]:
    """Outputs of the draft at every depth of guessing, each of shape (batch, length - 1, hidden size).

    states (batch, length, layers, hidden size) and tokens (batch, length) are a shard's. At depth 1 the input at
    position t is the target's state at t - 1 and the token at t. At depth d it is the draft's own output of depth
    d - 1 at t - 1, and position t sees what a decoder would have: keys of depth 1 up to t - d + 1, then one of each
    further depth. Row i of an answer stands for position i + 1; rows before d - 1 mean nothing.
    """
    state = model.fused(states[:, :-1])
    tokens = tokens[:, 1:]
    batch, length = tokens.shape
    positions = torch.arange(1, length + 1, device=tokens.device)[None].expand(batch, -1)
    groups, dim = model.config.key_heads, model.config.head_dim
    behind = torch.arange(length)[:, None] - torch.arange(length)[None]  # how far back a key is
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for depth in range(depths):
        inputs = model.joined(state, tokens)
        query, key, value = model.project(inputs, positions)
        keys.append(key)
        values.append(value)
        if depth == 0:
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        else:
            query = query.unflatten(1, (groups, -1)) / math.sqrt(dim)  # (batch, key heads, shared, length, dim)
            scores = query @ keys[0][:, :, None].transpose(-1, -2)
            scores = [scores.float().masked_fill(behind < depth, -torch.inf)]
            later = [_shift(key, depth - 1 - i)[:, :, None] for i, key in enumerate(keys[1:])]
            scores += [(query * key).float().sum(-1, keepdim=True) for key in later]
            weights = torch.cat(scores, -1).softmax(-1).to(value.dtype)
            attended = weights[..., :length] @ values[0][:, :, None]
            for i, value in enumerate(values[1:]):
                attended = attended + weights[..., length + i, None] * _shift(value, depth - 1 - i)[:, :, None]
            attended = attended.flatten(1, 2)
        output = model.finish(inputs, attended)
        yield output
        state = _shift(output, 1)


def _shift(rows: Tensor, by: int) -> Tensor:
    """Rows moved `by` positions on along the last dimension but one; what comes in is a copy of the first."""
    if by == 0:
        return rows
    return torch.cat([rows[..., :1, :].expand(*rows.shape[:-2], by, -1), rows[..., :-by, :]], -2)


def losses(
    model: FeatureModel, batch: dict[str, Tensor], begin: int, depths: int, share: float, generator: torch.Generator
) -> list[Tensor]:
    """Cross-entropy in nats at each depth, over a random `share` of the positions from `begin` to each row's end."""
    tokens, states = batch["tokens"], batch["features"]
    place = torch.arange(1, tokens.shape[1])[None]
    wanted = (place >= begin) & (place < batch["ends"][:, None])
    if share < 1:
        wanted &= torch.rand(wanted.shape, generator=generator) < share
    head = model.head
    with torch.no_grad():
        truth = F.linear(states[:, 1:, -1][wanted].to(head.dtype), head).float().softmax(-1)
    found = []
    for depth, output in enumerate(unroll(model, states, tokens, depths)):
        use = wanted & (place > depth)
        log_probs = model.logits(output[use]).float().log_softmax(-1)
        found.append(-(truth[use[wanted]] * log_probs).sum(-1).mean())
    return found


@torch.no_grad()
def agreement(
    model: FeatureModel, batch: dict[str, Tensor], begins: Tensor, depths: int = DEPTHS, top: Sequence[int] = (1, 4)
) -> dict[int, list[float]]:
    """For each k of `top`: how often the target's likeliest token is among the draft's k likeliest, by depth.

    Over the positions from `begins` (rows,) to each row's end, given right tokens so far. The target's likeliest is
    taken of its whole vocabulary, so that a token which the draft does not keep counts as a miss.
    """
    tokens, states = batch["tokens"], batch["features"]
    place = torch.arange(1, tokens.shape[1])[None]
    wanted = (place >= begins[:, None]) & (place < batch["ends"][:, None])
    truth = batch["likeliest"][:, 1:]
    found: dict[int, list[float]] = {k: [] for k in top}
    with torch.autocast("cpu", torch.bfloat16):
        for depth, output in enumerate(unroll(model, states, tokens, depths)):
            use = wanted & (place > depth)
            ranked = model.kept[model.logits(output[use]).topk(max(top)).indices]
            for k in top:
                hit = (ranked[:, :k] == truth[use][:, None]).any(-1)
                found[k].append(float(hit.float().mean()))
    return found


def train(
    model: FeatureModel,
    shards: Shards,
    folder: Path,
    minutes: float,
    *,
    begin: int = 1,
    positions: int = 1600,
    learning_rate: float = 2e-3,
    depths: int = DEPTHS,
    share: float = 0.5,
    held_out: Callable[[FeatureModel], list[float]] | None = None,
    every: float = 300.0,
    told: Callable[[Progress], None] | None = None,
    seed: int = 0,
) -> Progress:
    """Train for `minutes`, a checkpoint in `folder` every `every` seconds; one that is there is gone on from."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim != 2]
    optimisers = [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(vectors, lr=learning_rate, weight_decay=0.0),
    ]
    progress = Progress()
    generator = torch.Generator().manual_seed(seed)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        progress = Progress(**saved["progress"])

    def save() -> None:
        if held_out is not None:
            progress.agreements.append((progress.seconds, held_out(model)))
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in optimisers],
            "progress": asdict(progress),
        }
        torch.save(state, checkpoint.with_suffix(".part"))
        os.replace(checkpoint.with_suffix(".part"), checkpoint)

    since = last = time.perf_counter()
    while progress.seconds < 60 * minutes:
        done = progress.seconds / (60 * minutes)
        rate = min(1.0, (progress.steps + 1) / 50) * min(1.0, 2 * (1 - done))  # warm up, then down in the second half
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * rate
        batch = shards.batch(positions)
        with torch.autocast("cpu", torch.bfloat16):
            found = losses(model, batch, begin, depths, share, generator)
        weights = [DISCOUNT**depth for depth in range(depths)]
        loss = sum(weight * one for weight, one in zip(weights, found, strict=True)) / sum(weights)
        loss.backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        progress.steps += 1
        progress.positions += int(batch["ends"].sum())
        now = time.perf_counter()
        progress.seconds += now - last
        last = now
        if progress.steps % 10 == 0:
            progress.losses.append((progress.seconds, float(found[0].detach())))
            if told is not None:
                told(progress)
        if now - since > every:
            save()
            since = last = time.perf_counter()
    save()
    return progress
