"""A standalone draft: a causal LM made of a few of the target's layers, trained to predict what the target says.

It shares the target's embedding and head and does not read the target's hidden states. It is the baseline for
`EagleDraft`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from specbeam.drafts.logit_head import LogitHead

from .held_out_agreement import answer_positions, share_of_hits
from .training import judged, target_probs


def layers_of(target: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A causal LM made of copies of these layers of `target`, which shares its embedding and head.

    Untrained, the first few layers are what early-exit drafting runs (Elhoushi et al. 2024, LayerSkip).

    Raises ValueError for a model that does not keep its layers in one list, and for layers that it does not have.
    """
    stack: Any = getattr(target.get_decoder(), "layers", None)  # type: ignore[operator]
    if not isinstance(stack, nn.ModuleList):
        raise ValueError(f"{type(target).__name__} does not keep its layers in one list; take another kind of draft.")
    if not layers or min(layers) < 0 or max(layers) >= len(stack):
        raise ValueError(f"layers={list(layers)} are not among the {len(stack)} of {type(target).__name__}.")
    memo: dict[int, Any] = {
        id(module): module for module in (target.get_input_embeddings(), target.get_output_embeddings())
    }
    memo[id(stack)] = nn.ModuleList(copy.deepcopy(stack[index]) for index in layers)
    small: Any = copy.deepcopy(target, memo)
    for place, layer in enumerate(small.get_decoder().layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    small.config.num_hidden_layers = len(layers)
    if getattr(small.config, "layer_types", None):
        small.config.layer_types = [small.config.layer_types[index] for index in layers]
    return small.eval()


class StandaloneStudent:
    """Trains the layers of a small causal LM, not its embedding or head.

    Args:
        model: the small model (`layers_of`), float32 and not packed.
        kept: the tokens that its loss is computed over, shape (kept tokens,).
        begin: how many positions at the beginning of a text do not count.
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
        """One loss: without the target's states all depths are the same."""
        decoder: Any = self.model.get_decoder()  # type: ignore[operator]
        _, wanted = judged(batch, self.begin, share, generator)
        truth = target_probs(batch["features"][:, 1:, -1][wanted].to(self.head.weight.dtype), self.head)
        hidden = decoder(input_ids=batch["tokens"], use_cache=False).last_hidden_state[:, 1:][wanted]
        return [F.cross_entropy(self.head(hidden).float(), truth)]


@torch.no_grad()
def standalone_agreement(
    model: PreTrainedModel, answers: dict[str, Tensor], top: Sequence[int] = (1, 4)
) -> dict[int, float]:
    """For each k of `top`: how often the target's likeliest token is among the k likeliest of `model`.

    answers: of `held_out_agreement.greedy_answers`.
    """
    wanted, ranked = answer_positions(answers), []
    for row, use in zip(answers["tokens"].long(), wanted, strict=True):
        logits = model(row[None].to(model.device), use_cache=False).logits[0, 1:].cpu()  # type: ignore[operator]
        ranked.append(logits[use].topk(max(top)).indices)
    guesses, truth = torch.cat(ranked), answers["likeliest"][:, 1:][wanted]
    return {k: share_of_hits(guesses[:, :k], truth) for k in top}
