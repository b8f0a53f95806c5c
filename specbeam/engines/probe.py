"""A probe: whether a model that nobody has tried takes a tree's mask and positions as it should, on one tiny tree.

A model with code of its own may accept a 4-D mask or `position_ids` and not heed them. Nothing fails then, and the
tokens are wrong. So before such a model is decoded over trees, a prompt with two branches is read in one pass, as every
tree is, and each branch once more as a plain sequence. The second branch tells: what ignores the mask sees the first
branch there, and what counts positions by slots begins behind it.

    prompt | first   | second
    . . .  | .  .    | .  .        both branches follow the prompt
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from specbeam.compat import input_device, uncompiled
from specbeam.core.scorer import Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree

from .families import TESTED, Traits, text_config, why_no_tree
from .memory import ran_out
from .torch_engine import TorchEngine

PROMPT, BRANCH = 3, 2  # tokens
# The share of the logits' spread that two ways to the same tokens may differ by. Rounding came to 1e-2 in float16 for
# SmolLM2-135M and to 5e-6 in float32; without the mask or the positions it was 0.6 and 0.8, and with tiny random models
# of all families 0.05 and more.
NOISE = {torch.float64: 1e-5, torch.float32: 1e-3}
COARSE_NOISE = 0.1

_CLASSES = {MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind) for kind in TESTED}


def probe(model: PreTrainedModel, traits: Traits) -> tuple[str | None, bool]:
    """Why `model` cannot verify a tree, as its family tells or found out by trying, and whether that is sure.

    Trying makes three passes over a few tokens. Families that specbeam is tested on are not tried, nor is a model in
    training mode. Where the passes give no numbers or memory does not suffice it is not sure, and worth another try.
    """
    known = why_no_tree(model)
    if known is not None or _tested(model):
        return known, True
    if model.training:
        return None, False
    cuda = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        return _try(model, traits)


def _tested(model: PreTrainedModel) -> bool:
    kind = type(uncompiled(model))
    return kind.__module__.startswith("transformers.models.") and kind.__name__ in _CLASSES


@torch.inference_mode()
def _try(model: PreTrainedModel, traits: Traits) -> tuple[str | None, bool]:
    """What is wrong over a tree, if anything, and whether that is sure."""
    try:
        prompt, branches = tiny_texts(model)
        texts = torch.tensor([prompt + branch for branch in branches], device=input_device(model))
        plain = model(input_ids=texts, use_cache=False, return_dict=True).logits[:, PROMPT:].flatten(0, 1)
    except Exception:  # whatever it is, the decode will meet it as well, and is the place to report it
        return None, False
    tree, nodes = TokenTree(prompt), []
    for branch in branches:
        node = ROOT
        for token in branch:
            nodes.append(node := tree.child(node, token))
    try:
        scorer = TreeScorer(TorchEngine(model, traits=traits))
        scorer.start([tree], Request(texts[:1, :PROMPT], torch.ones_like(texts[:1, :PROMPT])))
        off = distance(scorer.score([nodes]).logits, plain)
    except Exception as error:
        if ran_out(error):
            return None, False
        first = next(iter(str(error).splitlines()), "")
        return f"a pass over a tiny tree fails ({type(error).__name__}: {first})", True
    if off is None:
        return None, False
    if off <= NOISE.get(plain.dtype, COARSE_NOISE):
        return None, True
    return (
        f"its logits over a tiny tree are off by {off:.0%} of their spread from those of plain sequences, so it does "
        "not heed the 4-D mask, or position_ids"
    ).replace("%", " %"), True


def tiny_texts(model: PreTrainedModel) -> tuple[list[int], list[list[int]]]:
    """A prompt and two branches of different tokens, spread over the vocabulary as far as there are enough."""
    size: int = getattr(text_config(model), "vocab_size", None) or _rows(model)
    step = max(size // 16, 1)
    tokens = [step * k % size for k in range(1, PROMPT + 2 * BRANCH + 1)]
    first, second = tokens[PROMPT : PROMPT + BRANCH], tokens[PROMPT + BRANCH :]
    return tokens[:PROMPT], [first, [(first[0] + step) % size, *second[1:]]]


def _rows(model: PreTrainedModel) -> int:
    embedding: Any = model.get_input_embeddings()
    return len(embedding.weight)


def distance(found: Tensor, wanted: Tensor) -> float | None:
    """How far the rows of `found` are from those of `wanted`, in units of the latter's spread; None without numbers."""
    found, wanted = found.double(), wanted.double()
    possible = wanted != -torch.inf
    if not wanted[possible].isfinite().all() or not possible.any(-1).all():
        return None
    if ((found != -torch.inf) != possible).any() or not found[possible].isfinite().all():
        return float("inf")
    found, wanted = found.masked_fill(~possible, 0), wanted.masked_fill(~possible, 0)
    mean = wanted.sum(-1, keepdim=True) / possible.sum(-1, keepdim=True)
    spread = ((wanted - mean) * possible).norm(dim=-1)
    return float(((found - wanted).norm(dim=-1) / spread.clamp(min=1e-9)).max())
