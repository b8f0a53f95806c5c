"""A small standalone draft: a causal LM of a few of the target's own layers, trained to say what the target says.

It shares the target's embedding and head and never sees the target's hidden states. What `EagleDraft` is measured
against.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from specbeam.drafts.logit_head import LogitHead

from .training import judged, target_probs


def layers_of(target: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A causal LM made of copies of these layers of `target`, with its embedding, last norm and head.

    Untrained, the first few layers are what early-exit drafting runs (Elhoushi et al. 2024, LayerSkip).

    Raises ValueError for a model whose layers do not stand in one list, and for layers that it does not have.
    """
    config = copy.deepcopy(target.config)
    depth = config.num_hidden_layers
    stack: Any = getattr(target.get_decoder(), "layers", None)  # type: ignore[operator]
    if not isinstance(stack, nn.ModuleList):
        raise ValueError(f"{type(target).__name__} does not keep its layers in one list; take another kind of draft.")
    if not layers or min(layers) < 0 or max(layers) >= depth:
        raise ValueError(f"layers={list(layers)} are not among the {depth} of {type(target).__name__}.")
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in layers]
    with torch.device("meta"):
        small: Any = type(target)(config)
    small.get_decoder().layers = nn.ModuleList(copy.deepcopy(stack[index]) for index in layers)
    for place, layer in enumerate(small.get_decoder().layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    small.set_input_embeddings(target.get_input_embeddings())
    small.set_output_embeddings(target.get_output_embeddings())
    for name, module in target.get_decoder().named_children():  # type: ignore[operator]
        if name != "layers" and module is not target.get_input_embeddings():
            setattr(small.get_decoder(), name, copy.deepcopy(module))
    small.generation_config = copy.deepcopy(target.generation_config)
    return small.eval()


class StandaloneStudent:
    """Trains the layers of a small causal LM, not its embedding or head.

    Args:
        model: the small model (`layers_of`), float32 and not packed.
        kept: the tokens that its loss is computed over, shape (kept tokens,).
        begin: positions at the beginning of a text that do not count.
    """

    def __init__(self, model: PreTrainedModel, kept: Tensor, begin: int = 1):
        self.model, self.begin = model, begin
        self.head = LogitHead.of(model, kept)
        decoder: Any = model.get_decoder()  # type: ignore[operator]
        model.requires_grad_(False)
        decoder.layers.requires_grad_(True)

    def trained(self) -> dict[str, Tensor]:
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    def losses(self, batch: dict[str, Tensor], share: float, generator: torch.Generator) -> list[Tensor]:
        """One loss: without the target's states there are no depths to tell apart."""
        decoder: Any = self.model.get_decoder()  # type: ignore[operator]
        _, wanted = judged(batch, self.begin, share, generator)
        truth = target_probs(batch["features"][:, 1:, -1][wanted].to(self.head.weight.dtype), self.head)
        hidden = decoder(input_ids=batch["tokens"], use_cache=False).last_hidden_state[:, 1:][wanted]
        log_probs = self.head(hidden).float().log_softmax(-1)
        return [-(truth * log_probs).sum(-1).mean()]


@torch.no_grad()
def standalone_agreement(
    model: PreTrainedModel, answers: dict[str, Tensor], top: Sequence[int] = (1, 4)
) -> dict[int, float]:
    """For each k of `top`: how often the target's likeliest token is among the k likeliest of `model`.

    `answers` are those of `heldout.greedy_answers`.
    """
    tokens = answers["tokens"].long()
    place = torch.arange(tokens.shape[1])[None]
    wanted = (place >= answers["begins"][:, None]) & (place < answers["ends"][:, None])
    hits = {k: 0 for k in top}
    for row, use, truth in zip(tokens, wanted, answers["likeliest"], strict=True):  # row by row: a vocabulary is wide
        logits = model(row[None].to(model.device), use_cache=False).logits[0].cpu()  # type: ignore[operator]
        ranked = logits[use].topk(max(top)).indices
        for k in top:
            hits[k] += int((ranked[:, :k] == truth[use][:, None]).any(-1).sum())
    return {k: found / max(int(wanted.sum()), 1) for k, found in hits.items()}
