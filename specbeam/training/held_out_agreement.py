"""How often a draft agrees with its target, on answers to prompts that are not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from specbeam.drafts.eagle_model import EagleModel
from specbeam.models.stopping import stop_tokens

from .prompts_and_answers import Row, write
from .unrolling import DEPTHS, unroll


def greedy_answers(model: PreTrainedModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> dict[str, Tensor]:
    """The target's greedy answers to tokenized `prompts`, with its hidden states.

    The columns of a shard (`prompts_and_answers.py`) and two more: `begins` (rows,), where each answer begins, and
    `likeliest` (rows, length), the target's likeliest next token at every position. Rows are sorted by the length of
    their prompts; prompts of one length are answered together.
    """
    lengths = sorted({len(prompt) for prompt in prompts})
    longest = lengths[-1] + max_new_tokens
    parts = []
    for length in lengths:
        same = torch.tensor([list(prompt) for prompt in prompts if len(prompt) == length])
        rows = [Row([], temperature=0.0, asking=False) for _ in same]
        part = write(model, same, rows, [], stop_tokens(model), length + max_new_tokens, torch.Generator())
        part["begins"] = torch.full((len(same),), length)
        for name in ("tokens", "features"):
            missing = longest - part[name].shape[1]
            part[name] = F.pad(part[name], [0, 0] * (part[name].ndim - 2) + [0, missing])
        parts.append(part)
    answers = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    head: Any = model.get_output_embeddings()
    with torch.inference_mode():  # row by row: a vocabulary is wide
        last = [states[:, -1].to(model.device, head.weight.dtype) for states in answers["features"]]
        answers["likeliest"] = torch.stack([head(states).argmax(-1).cpu() for states in last])
    return answers


def answer_positions(answers: dict[str, Tensor]) -> Tensor:
    """Which positions from 1 on belong to the answers; shape (rows, length - 1)."""
    place = torch.arange(1, answers["tokens"].shape[1], device=answers["tokens"].device)[None]
    return (place >= answers["begins"][:, None]) & (place < answers["ends"][:, None])


@torch.no_grad()
def agreement(
    model: EagleModel, answers: dict[str, Tensor], depths: int = DEPTHS, top: Sequence[int] = (1, 4)
) -> dict[int, list[float]]:
    """For each k of `top`: how often the target's likeliest token is among the draft's k likeliest, by depth.

    Over the answers' positions, given right tokens so far; depth d means that the last d - 1 of them were guesses, so
    that the target's states were unknown there. The target's likeliest token is that of its whole vocabulary: a token
    that the draft does not keep counts as a miss.
    """
    answers = {name: column.to(model.kept.device) for name, column in answers.items()}
    tokens, wanted, truth = answers["tokens"].long(), answer_positions(answers), answers["likeliest"][:, 1:]
    shares: dict[int, list[float]] = {k: [] for k in top}
    for depth, output in enumerate(unroll(model, answers["features"], tokens, depths)):
        use = wanted.clone()
        use[:, :depth] = False  # there are fewer than `depth` guesses before these
        ranked = model.kept[model.logits(output[use]).topk(max(top)).indices]
        for k in top:
            shares[k].append(share_of_hits(ranked[:, :k], truth[use]))
    return shares


def share_of_hits(guesses: Tensor, truth: Tensor) -> float:
    """How often a token of `truth`, (tokens,), is among its `guesses`, (tokens, k); 0 without tokens."""
    return float((guesses == truth[:, None]).any(-1).sum()) / max(len(truth), 1)
