"""Train a draft for a target on what the target wrote (`answers.py`).

The loss is the cross-entropy against the target's own distribution at every position, at several depths of guessing
at once: the draft is unrolled over its own outputs, so that what it says three guesses further is trained as well
(Li et al. 2025, EAGLE-3, "training-time test", section 3.2). The hidden states lie in the shards; the target itself is
not run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from .feature_model import FeatureModel
from .shards import Shards
from .unrolling import DEPTHS, unroll

DISCOUNT = 0.8  # what a depth further counts in the loss


@dataclass
class Progress:
    """How far a training is: goes into the checkpoint, and the curves into the plot."""

    seconds: float = 0.0
    steps: int = 0
    positions: int = 0  # positions seen, each at every depth
    losses: list[tuple[float, float]] = field(default_factory=list)  # (seconds, loss at depth 1)
    agreements: list[tuple[float, list[float]]] = field(default_factory=list)  # (seconds, top-1 by depth)


def losses(
    model: FeatureModel, batch: dict[str, Tensor], begin: int, depths: int, share: float, generator: torch.Generator
) -> list[Tensor]:
    """Cross-entropy in nats at each depth, over a random `share` of the positions from `begin` to each row's end."""
    tokens, states = batch["tokens"], batch["features"]
    place = torch.arange(1, tokens.shape[1])[None]
    wanted = (place >= begin) & (place < batch["ends"][:, None])
    if share < 1:
        wanted &= torch.rand(wanted.shape, generator=generator) < share
    head = model.head.weight
    with torch.no_grad():
        truth = F.linear(states[:, 1:, -1][wanted].to(head.dtype), head).float().softmax(-1)
    found = []
    for depth, output in enumerate(unroll(model, states, tokens, depths)):
        use = wanted & (place > depth)
        log_probs = model.logits(output[use]).float().log_softmax(-1)
        found.append(-(truth[use[wanted]] * log_probs).sum(-1).mean())
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
    matrices = [p for p in model.trained().values() if p.ndim == 2]
    vectors = [p for p in model.trained().values() if p.ndim != 2]
    optimisers = [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(vectors, lr=learning_rate, weight_decay=0.0),
    ]
    progress = Progress()
    generator = torch.Generator().manual_seed(seed)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"], strict=False)
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        progress = Progress(**saved["progress"])

    def save() -> None:
        if held_out is not None:
            progress.agreements.append((progress.seconds, held_out(model)))
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": model.trained(),
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
        torch.nn.utils.clip_grad_norm_(model.trained().values(), 1.0)
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
