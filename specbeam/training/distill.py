"""From a target to a draft for it: the target writes texts, a feature draft is trained on them, a card describes it.

folder/target.json             the target's fingerprint
folder/texts/*.safetensors     the target's texts and beam searches, with its hidden states (about 3.5 kB a position)
folder/kept.pt                 the tokens that the draft can propose
folder/checkpoint.pt           of the training; a later call resumes from it
folder/draft.safetensors       the draft: give the folder to `load_pair(draft=…)`
folder/training.json           how the draft was trained and how often it agrees with the target
folder/README.md               the same in words
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.decoding.decoders import Pair
from specbeam.drafts.eagle_model import EagleConfig, EagleModel
from specbeam.drafts.fingerprint import Fingerprint, fingerprint, matches
from specbeam.drafts.trained import card, new_draft, save_draft
from specbeam.evaluation.data import load
from specbeam.files import write_atomic
from specbeam.models.prompts import render_prompt
from specbeam.models.stopping import stop_tokens

from .beam_texts import write_beam_shard
from .held_out_agreement import agreement, greedy_answers
from .prompts_and_answers import template_parts, write_shard
from .shards import Shards, frequent
from .training import FeatureStudent, Progress, save_whole, train
from .unrolling import DEPTHS

LICENCE = "that of the target, whose texts and weights it was made from"


def distill(
    target: PreTrainedModel,
    tokenizer: Any,
    name: str,
    folder: Path,
    *,
    positions: int = 1_000_000,
    minutes: float = 60.0,
    kept_tokens: int = 8192,
    passages: Sequence[str] = (),
    rows: int = 128,
    length: int = 208,
    licence: str = LICENCE,
    beam_prompts: int = 0,
    written: Callable[[int], None] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Write texts, train a feature draft for `target` on them, and leave it in `folder` with its card.

    After an interruption, another call resumes where it stopped; with more `positions` or `minutes` it continues.

    Args:
        target: any causal LM, not packed; bfloat16 writes texts fastest.
        positions: tokens to write before training begins.
        minutes: of training, those of earlier calls included.
        kept_tokens: how many of the target's tokens the draft can propose, the most frequent in the texts.
        passages: texts to summarise, for a quarter of the shards.
        rows: texts written together.
        length: longest text in tokens, question included.
        beam_prompts: from so many of the texts' questions the target also searches with 4 and 8 beams, and the draft
            learns from all sequences that it met, the dropped ones included.
        written: called after each shard with the number of positions so far.
        report: called with the training's progress every ten steps.

    Returns:
        The content of `training.json`.

    Raises ValueError if `folder` belongs to another target.
    """
    texts = folder / "texts"
    known = _known(folder, target)
    count = write_texts(target, tokenizer, texts, positions, passages, rows, length, written)
    nodes = write_beams(target, tokenizer, texts, beam_prompts)
    shards = Shards(texts)
    vocabulary = target.get_output_embeddings().weight.shape[0]  # type: ignore[union-attr]
    kept = _kept(folder, shards, min(kept_tokens, vocabulary), vocabulary, sorted(stop_tokens(target)))
    model = new_draft(target, kept)
    held = held_out_sets(target, tokenizer)
    first = next(iter(held.values()))
    begin = len(template_parts(tokenizer)[0])
    progress = train(
        FeatureStudent(model, begin),
        shards,
        folder,
        minutes,
        held_out=lambda: agreement(model, first)[1],
        report=report,
    )
    training = {
        "target": name,
        "licence": licence,
        "data": "questions and answers that the target wrote itself"
        + (f", and its summaries of {len(passages):,} passages" if passages else ""),
        "positions_written": count,
        "beam_nodes": nodes,
        "positions_seen": progress.positions,
        "steps": progress.steps,
        "train_minutes": progress.seconds / 60,
        "machine": _machine(target.device),
        "depths": DEPTHS,
        "parameters": sum(weight.numel() for weight in model.trained().values()),
        "kept_tokens": len(kept),
        "agreement": measured(model, held),
        "losses": progress.losses,
        "agreements": progress.agreements,
    }
    publish(model, training, folder, known)
    return training


def write_texts(
    target: PreTrainedModel,
    tokenizer: Any,
    texts: Path,
    positions: int,
    passages: Sequence[str],
    rows: int,
    length: int,
    written: Callable[[int], None] | None = None,
) -> int:
    """Write shards until they hold `positions` positions; returns how many they hold."""
    count, shard = (Shards(texts).positions() if any(texts.glob("[0-9]*.safetensors")) else 0), 0
    while count < positions:
        count += write_shard(target, tokenizer, texts, shard, passages, rows=rows, length=length)
        shard += 1
        if written is not None:
            written(count)
    return count


def write_beams(target: PreTrainedModel, tokenizer: Any, texts: Path, prompts: int) -> int:
    """Search from so many questions of the texts, shard after shard; returns how many nodes these shards hold."""
    shards = [int(path.stem) for path in Shards(texts).paths()]
    pair, layers, nodes = Pair(target, None, tokenizer), EagleConfig.for_target(target).layers, 0
    each = -(-prompts // len(shards))
    for shard in shards if prompts else []:
        nodes += write_beam_shard(pair, texts, shard, layers, prompts=each)
    return nodes


def held_out_sets(target: PreTrainedModel, tokenizer: Any, articles: int = 16) -> dict[str, dict[str, Tensor]]:
    """Greedy answers to prompts of `evaluation.data` that are not trained on; to articles if their package is there."""

    def tokens(prompts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        return [render_prompt(tokenizer, prompt)["input_ids"][0].tolist()[:limit] for prompt in prompts]

    open_prompts = [example.prompt for name in ("chat", "code") for example in load(name)]
    answers = {"chat and code": greedy_answers(target, tokens(open_prompts), 96)}
    try:
        news = [example.prompt for example in load("xsum", articles, max_words=220)]
    except ValueError:
        return answers
    return {**answers, "summaries of XSum articles": greedy_answers(target, tokens(news), 64)}


def measured(model: EagleModel, held: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    """Agreement on each held-out set, as `training.json` keeps it."""
    rows = {}
    for name, answers in held.items():
        hits = agreement(model, answers)
        count = int((answers["ends"] - answers["begins"]).clamp(min=0).sum())
        rows[name] = {"tokens": count, "top_1": hits[1], "top_4": hits[4]}
    return rows


def publish(model: EagleModel, training: dict[str, Any], folder: Path, known: Fingerprint | None = None) -> None:
    """Write the draft, `training.json` and the card, each whole or not at all; `known` is the target's fingerprint."""
    save_draft(model, folder, training["target"], known)
    write_atomic(folder / "training.json", json.dumps(training, indent=1))
    write_atomic(folder / "README.md", card(training))


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU thread(s) of {platform.processor() or platform.machine()}"


def _known(folder: Path, target: PreTrainedModel) -> Fingerprint:
    """The target's fingerprint, stored in `folder`. Raises ValueError if the folder belongs to another target."""
    path, own = folder / "target.json", fingerprint(target)
    if not path.exists():  # a new folder, or one of an earlier version
        write_atomic(path, json.dumps(own))
        return own
    stored = json.loads(path.read_text(encoding="utf-8"))
    same_shape = all(own[name]["shape"] == stored[name]["shape"] for name in own.keys() & stored.keys())
    if not same_shape or not matches(stored, target):
        raise ValueError(
            f"{folder} belongs to another target: its weights are not those of this {type(target).__name__}; "
            "give another folder, or remove this one"
        )
    return own


def _kept(folder: Path, shards: Shards, size: int, vocabulary: int, always: list[int]) -> Tensor:
    """The tokens that the draft can propose; chosen once, because the weights depend on them."""
    path = folder / "kept.pt"
    if not path.exists():
        save_whole(path, frequent(shards.counts(), size, vocabulary, always))
    return torch.load(path, weights_only=True)
