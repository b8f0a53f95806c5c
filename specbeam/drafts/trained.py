"""A trained draft on disk: a folder with its weights, how it was trained, and a card.

The weights lie in `draft.safetensors` as bfloat16. Metadata are the draft's shape and the name of its target, and the
target's fingerprint where there is one. The target's own embedding and head are taken from the target when the draft is
loaded.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from transformers import PreTrainedModel

from specbeam.engines.packing import dense_weight, pack_layers, packs
from specbeam.files import write_atomic

from .eagle_model import EagleConfig, EagleModel
from .fingerprint import Fingerprint, matches
from .logit_head import LogitHead

WEIGHTS = "draft.safetensors"
SHIPPED = Path(__file__).parent / "weights" / "SmolLM2-135M-Instruct"


def new_draft(target: PreTrainedModel, kept: torch.Tensor, seed: int = 0) -> EagleModel:
    """An untrained EAGLE draft for `target` that can propose the tokens `kept`, on the device of its head."""
    head, embedding = LogitHead.of(target, kept), _embedding(target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config, device = EagleConfig.for_target(target), head.weight.device
        head = LogitHead(head.weight.float(), None if head.bias is None else head.bias.float(), head.after)
        return EagleModel(config, embedding.to(device), head, kept.to(device)).to(device)


def save_draft(model: EagleModel, folder: Path, target: str, known: Fingerprint | None = None) -> None:
    """Write the weights to `folder`; `target` names the model that it was trained for, `known` is its fingerprint."""
    weights = {name: weight.detach().bfloat16().contiguous() for name, weight in model.trained().items()}
    weights["kept"] = model.kept.int()
    metadata = {"config": json.dumps(asdict(model.config)), "target": target}
    if known is not None:
        metadata["fingerprint"] = json.dumps(known)
    write_atomic(folder / WEIGHTS, save(weights, metadata))


def load_draft(folder: str | os.PathLike, target: PreTrainedModel, packed: bool = True) -> EagleModel:
    """The EAGLE draft in `folder`, ready to propose for `target`, on its device.

    On a CPU its layers are bfloat16 and packed where this machine computes that correctly, which halves the cost of
    drafting, unless `packed` is False; elsewhere they have the target's dtype.

    Raises ValueError if there is no draft in the folder or it was made for a model of another shape. Warns if it was
    made for another model of that shape, as far as the file tells: it foresees little then, and the results are right.
    """
    path = Path(folder) / WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        config = EagleConfig.from_dict(json.loads(metadata["config"]))
        known = json.loads(metadata.get("fingerprint", "{}"))
        kept = weights.pop("kept").long()
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder} holds no trained draft ({error}); make one with `specbeam distill --out {folder}`"
        ) from error
    size, layers = target.config.get_text_config().hidden_size, target.config.get_text_config().num_hidden_layers
    if config.hidden_size != size or config.layers[-1] != layers or int(kept.max()) >= _tokens(target):
        raise ValueError(
            f"the draft in {folder} was trained for {metadata['target']} with {config.layers[-1]} layers of "
            f"{config.hidden_size}, but {type(target).__name__} has {layers} of {size}; train one for it with "
            "`specbeam distill`, or use draft='recall'"
        )
    if not matches(known, target):
        warnings.warn(
            f"the draft in {folder} was trained for {metadata['target']}, and this {type(target).__name__} has the "
            "same shape and other weights. The results are right, but it may foresee little: train one with `specbeam "
            "distill`, or use draft='recall'.",
            stacklevel=2,
        )
    head = LogitHead.of(target, kept)
    model = EagleModel(config, _embedding(target), head, kept.to(head.weight.device))
    shapes = {name: weight.shape for name, weight in model.trained().items()}
    if shapes != {name: weight.shape for name, weight in weights.items()}:
        raise ValueError(
            f"{folder} holds no trained draft of this version; make one with `specbeam distill --out {folder}`"
        )
    model.load_state_dict(weights, strict=False)
    model.requires_grad_(False).eval()
    model.to(target.device, target.dtype)
    return pack_draft(model) if packed else model


def pack_draft(model: EagleModel) -> EagleModel:
    """Pack its layers as bfloat16 where it is on a CPU that computes that correctly; leave it as it is elsewhere."""
    if model.embedding.device.type == "cpu" and packs(torch.bfloat16):
        model.to(torch.bfloat16)
        pack_layers(model)
    return model


def _embedding(target: PreTrainedModel) -> torch.Tensor:
    """The target's input embedding, (vocabulary, hidden size)."""
    weight = dense_weight(target.get_input_embeddings())
    if weight is None:
        raise ValueError(
            f"a trained draft reads the input embedding of {type(target).__name__}, which is quantized or shared out "
            "among processes; leave it as it is, or use draft='recall'"
        )
    return weight


def _tokens(target: PreTrainedModel) -> int:
    """How many tokens the target's head knows."""
    head: Any = target.get_output_embeddings()
    return getattr(head, "out_features", None) or head.weight.shape[0]  # 4-bit weights are flat


def card(training: dict[str, Any]) -> str:
    """What a reader should know of a draft, in Markdown, out of the record of its training (`training.json`)."""
    nodes = training.get("beam_nodes")
    beams = f", and {nodes:,} that its searches with 4 and 8 beams met" if nodes else ""
    lines = [
        f"# A draft for {training['target']}",
        "",
        "A draft in the manner of EAGLE: one decoder layer over the target's hidden states. Its embedding and "
        "head are the target's and are not stored here.",
        "",
        f"* **Licence**: {training['licence']}",
        f"* **Training texts**: {training['data']}",
        f"* **Positions**: {training['positions_written']:,} written by the target{beams}, "
        f"{training['positions_seen']:,} seen in training, each at {training['depths']} depths of guessing",
        f"* **Time**: {training['train_minutes']:.0f} minutes of training on {training['machine']}",
        f"* **Size**: {training['parameters']:,} trained parameters as bfloat16; it can propose "
        f"{training['kept_tokens']:,} of the target's tokens",
        "",
        "Agreement with the target's likeliest token on greedy answers to held-out prompts, given right tokens so far. "
        "Depth d: the last d - 1 tokens are guesses, so the target's hidden states there are not known.",
        "",
        "| prompts | answers' tokens | " + " | ".join(f"depth {d}" for d in range(1, training["depths"] + 1)) + " |",
        "|---|---|" + "---|" * training["depths"],
    ]
    for name, found in training["agreement"].items():
        cells = [f"{top1:.2f} (top 4: {top4:.2f})" for top1, top4 in zip(found["top_1"], found["top_4"], strict=True)]
        lines.append(f"| {name} | {found['tokens']:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
