"""Train a draft for a target on texts that the target wrote (`prompts_and_answers.py`).

The loss is the cross-entropy against the target's own distribution at every position, at several depths of guessing:
the draft is unrolled over its own outputs, so that its second, third and fourth guesses in a row are trained as well
(Li et al. 2025, EAGLE-3, "training-time test", section 3.2). The target's hidden states come from the shards; the
target is not run.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from specbeam.drafts.eagle_model import EagleModel
from specbeam.experiments.cpu import multiplies_bfloat16
from specbeam.files import write_atomic

from .float32_steps import Float32Steps
from .shards import Shards
from .unrolling import DEPTHS, unroll

DISCOUNT = 0.8  # the weight of a depth in the loss, relative to the depth before it


@dataclass
class Progress:
    """The state of a training: part of the checkpoint; the curves are plotted."""

    seconds: float = 0.0
    steps: int = 0
    positions: int = 0  # positions seen, each at every depth
    losses: list[tuple[float, float]] = field(default_factory=list)  # (seconds, loss at depth 1)
    agreements: list[tuple[float, list[float]]] = field(default_factory=list)  # (seconds, top-1 by depth)


class Student(Protocol):
    """A model as `train` needs it."""

    def trained(self) -> dict[str, Tensor]:
        """The parameters to train, by name; they go into the checkpoint."""
        ...

    def losses(self, batch: dict[str, Tensor], share: float, generator: torch.Generator) -> list[Tensor]:
        """Cross-entropy in nats to the target's distribution at each depth, over a random `share` of the positions."""
        ...


@dataclass
class FeatureStudent:
    """A feature draft, unrolled over `depths` of its own guesses. A text's first `begin` positions do not count."""

    model: EagleModel
    begin: int = 1
    depths: int = DEPTHS

    def trained(self) -> dict[str, Tensor]:
        return self.model.trained()

    def losses(self, batch: dict[str, Tensor], share: float, generator: torch.Generator) -> list[Tensor]:
        tokens, states = batch["tokens"], batch["features"]
        place, wanted = judged(batch, self.begin, share, generator)
        truth = target_probs(states[:, 1:, -1][wanted], self.model.target_logits)
        losses = []
        for depth, output in enumerate(unroll(self.model, states, tokens, self.depths)):
            use = wanted & (place > depth)
            losses.append(F.cross_entropy(self.model.logits(output[use]).float(), truth[use[wanted]]))
        return losses


def judged(batch: dict[str, Tensor], begin: int, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The positions from 1 on, (1, length - 1), and which of them count, (rows, length - 1).

    A row's own `begins`, where the batch has them, come on top of `begin`.
    """
    place = torch.arange(1, batch["tokens"].shape[1], device=batch["tokens"].device)[None]
    wanted = (place >= begin) & (place < batch["ends"][:, None])
    if "begins" in batch:
        wanted &= place >= batch["begins"][:, None]
    if share < 1:
        wanted &= (torch.rand(wanted.shape, generator=generator) < share).to(wanted.device)
    return place, wanted


@torch.no_grad()
def target_probs(states: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    """The target's distribution over the kept tokens, (positions, kept tokens), from its last hidden states.

    head: from hidden states to the target's logits (`LogitHead`, `EagleModel.target_logits`).
    """
    return head(states).float().softmax(-1)


def save_whole(path: Path, content: Any) -> None:
    """`torch.save`, but the file holds all of the content or what it held before."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(path, buffer.getvalue())


def train(
    student: Student,
    shards: Shards,
    folder: Path,
    minutes: float,
    *,
    positions: int = 1600,
    learning_rate: float = 0.01,
    share: float = 0.5,
    held_out: Callable[[], list[float]] | None = None,
    every: float = 300.0,
    report: Callable[[Progress], None] | None = None,
    seed: int = 0,
) -> Progress:
    """Train for `minutes`, with a checkpoint in `folder` every `every` seconds; resumes from an existing checkpoint.

    Matrices are trained with Muon (Jordan et al. 2024), the rest with AdamW. The learning rate rises over 50 steps, or
    over a tenth of the time where that is shorter, and falls to zero over the second half of the time.

    Args:
        positions: positions a step.
        share: which share of a batch's positions counts in the loss; the head is much of the cost.
        held_out: measures agreement by depth; called before each checkpoint, outside the measured time.
        report: called with the progress every ten steps.
    """
    weights = student.trained()
    matrices = [weight for weight in weights.values() if weight.ndim == 2]
    vectors = [weight for weight in weights.values() if weight.ndim != 2]
    optimisers = [
        torch.optim.Muon(matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(vectors, lr=learning_rate, weight_decay=0.0),
    ]
    progress, device = Progress(), next(iter(weights.values())).device
    in_bfloat16 = device.type != "cpu" or multiplies_bfloat16()
    generator = torch.Generator().manual_seed(seed)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(saved["model"][name])
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        progress = Progress(**saved["progress"])
        # otherwise a training that is often interrupted would see the same first batches every time
        generator.manual_seed(seed + progress.steps)
        shards.shuffle(seed + progress.steps)

    def save() -> None:
        if held_out is not None:
            progress.agreements.append((progress.seconds, held_out()))
        states = [optimiser.state_dict() for optimiser in optimisers]
        save_whole(checkpoint, {"model": weights, "optimisers": states, "progress": asdict(progress)})

    since = last = time.perf_counter()
    while progress.seconds < 60 * minutes:
        done = progress.seconds / (60 * minutes)
        rate = min(1.0, max((progress.steps + 1) / 50, 10 * done)) * min(1.0, 2 * (1 - done))
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * rate
        batch = {name: column.to(device) for name, column in shards.batch(positions).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16):
            losses = torch.stack(student.losses(batch, share, generator))
        counts = DISCOUNT ** torch.arange(len(losses), device=device)
        ((losses * counts).sum() / counts.sum()).backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        with contextlib.nullcontext() if in_bfloat16 else Float32Steps():
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
        progress.steps += 1
        progress.positions += int(batch["ends"].sum())
        now = time.perf_counter()
        progress.seconds += now - last
        last = now
        if progress.steps % 10 == 0:
            progress.losses.append((progress.seconds, float(losses[0].detach())))
            if report is not None:
                report(progress)
        if now - since > every:
            save()
            since = last = time.perf_counter()
    save()
    return progress
