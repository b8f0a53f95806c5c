"""From a target to a draft that fits it: the target writes texts, a feature draft learns from them, a card tells how.

folder/target.json             by which the target is known again
folder/texts/*.safetensors     what the target wrote, with its hidden states (about 3.5 kB a position)
folder/checkpoint.pt           of the training; a later call goes on from it
folder/draft.safetensors       the draft: give the folder to `load_pair(draft=…)`
folder/training.json           how it was trained and how well it agrees
folder/README.md               the same in words
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.drafts.eagle_model import EagleConfig, EagleModel
from specbeam.drafts.fingerprint import Fingerprint, fingerprint, matches
from specbeam.drafts.trained import card, new_draft, save_draft
from specbeam.evaluation.data import load
from specbeam.files import write_atomic
from specbeam.models.prompts import render_prompt

from .held_out_agreement import agreement, greedy_answers
from .prompts_and_answers import stop_tokens, template_parts, write_shards
from .shards import Shards, frequent
from .training import FeatureStudent, Progress, train
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
    written: Callable[[int], None] | None = None,
    told: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Write texts, train a feature draft for `target` on them, and leave it in `folder` with its card.

    Interrupted, it goes on where it stopped when called again; with more `positions` or `minutes` it goes further.

    Args:
        target: any causal LM, not packed; bfloat16 writes texts fastest.
        positions: tokens to write before training begins.
        minutes: of training, those of earlier calls included.
        kept_tokens: how many of the target's tokens the draft can propose, the most frequent in the texts.
        passages: texts that a part of the rows is asked to summarise.
        rows: texts written side by side.
        length: longest text in tokens, question included.
        written: hears of each finished shard how many positions there are.
        told: hears of the training's progress.

    Returns:
        What `training.json` holds.

    Raises ValueError if `folder` belongs to another target.
    """
    texts = folder / "texts"
    _refuse_others(texts, target)
    known = _known(folder, target)
    count = write_texts(target, tokenizer, texts, positions, passages, rows, length, written)
    shards = Shards(texts)
    vocabulary = target.get_output_embeddings().weight.shape[0]  # type: ignore[union-attr]
    kept = _kept(folder, shards, min(kept_tokens, vocabulary), vocabulary, sorted(stop_tokens(target)))
    model = new_draft(target, kept)
    held = held_out_sets(target, tokenizer)
    first = next(iter(held.values()))
    begin = len(template_parts(tokenizer)[0])
    progress = train(
        FeatureStudent(model, begin), shards, folder, minutes, held_out=lambda: agreement(model, first)[1], told=told
    )
    training = {
        "target": name,
        "licence": licence,
        "data": "questions and answers that the target wrote itself"
        + (f", and its summaries of {len(passages):,} passages" if passages else ""),
        "positions_written": count,
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
        count += write_shards(target, tokenizer, texts, [shard], passages, rows=rows, length=length)
        shard += 1
        if written is not None:
            written(count)
    return count


def held_out_sets(target: PreTrainedModel, tokenizer: Any, articles: int = 16) -> dict[str, dict[str, Tensor]]:
    """Greedy answers to the prompts of `data.py`, none of which is trained on; articles only where their package is."""

    def tokens(prompts: Sequence[str], limit: int | None = None) -> list[list[int]]:
        return [render_prompt(tokenizer, prompt)["input_ids"][0].tolist()[:limit] for prompt in prompts]

    open_prompts = [example.prompt for name in ("chat", "code") for example in load(name)]
    found = {"chat and code": greedy_answers(target, tokens(open_prompts), 96)}
    try:
        news = [example.prompt for example in load("xsum", articles, max_words=220)]
    except ValueError:
        return found
    return {**found, "summaries of XSum articles": greedy_answers(target, tokens(news), 64)}


def measured(model: EagleModel, held: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    """Agreement on each held-out set, as `training.json` keeps it."""
    found = {}
    for name, answers in held.items():
        hits = agreement(model, answers)
        count = int((answers["ends"] - answers["begins"]).clamp(min=0).sum())
        found[name] = {"tokens": count, "top_1": hits[1], "top_4": hits[4]}
    return found


def publish(model: EagleModel, training: dict[str, Any], folder: Path, known: Fingerprint | None = None) -> None:
    """Write the draft, `training.json` and the card, each whole or not at all; `known` is the target's fingerprint."""
    save_draft(model, folder, training["target"], known)
    write_atomic(folder / "training.json", json.dumps(training, indent=1))
    write_atomic(folder / "README.md", card(training))


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU thread(s) of {platform.processor() or platform.machine()}"


def _refuse_others(texts: Path, target: PreTrainedModel) -> None:
    for path in sorted(texts.glob("[0-9]*.safetensors"))[:1]:
        with safe_open(path, framework="pt") as file:
            theirs = tuple(file.get_slice("features").get_shape()[2:])
        config = EagleConfig.for_target(target)
        if theirs != (len(config.layers), config.hidden_size):
            raise ValueError(
                f"the texts in {texts} were written by a model of another shape than {type(target).__name__}; "
                "give another folder, or remove this one"
            )


def _known(folder: Path, target: PreTrainedModel) -> Fingerprint:
    """The target's fingerprint, which `folder` holds from now on; one that holds another's is refused."""
    path = folder / "target.json"
    if path.exists() and not matches(json.loads(path.read_text(encoding="utf-8")), target):
        raise ValueError(
            f"{folder} belongs to another target of the same shape than this {type(target).__name__}: its weights are "
            "others; give another folder, or remove this one"
        )
    found = fingerprint(target)
    if not path.exists():  # folders of earlier versions have none
        write_atomic(path, json.dumps(found))
    return found


def _kept(folder: Path, shards: Shards, size: int, vocabulary: int, always: list[int]) -> Tensor:
    """The tokens that the draft can propose; chosen once, as the weights depend on them."""
    path = folder / "kept.pt"
    if not path.exists():
        torch.save(frequent(shards.counts(), size, vocabulary, always), path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)
    return torch.load(path, weights_only=True)
