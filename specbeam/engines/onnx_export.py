"""A pass of a target as an ONNX graph, without its weights: those are handed to the session from where torch has them.

The model's own forward pass is exported, whatever its family, in a form in which everything is an argument: tokens,
positions, masks, and the keys and values of the slots so far, which it returns those of the new tokens beside. For each
row that is asked for come the logits, their normaliser, and the likeliest tokens with their log-probabilities.

What makes the graph fast and leaves the numbers as they are up to rounding:

* Attention over the past and the new tokens is one operator, where the family looks its attention up by name.
* Norms by the root mean square and rotary embeddings become one operator each, where a trial shows that they are those.
* A linear layer multiplies with its weight as PyTorch stores it, transposed within the product.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from specbeam.compat import ATTENTION

from .families import Traits, text_config
from .onnx_attention import EXPORTED, Past, by_head, by_token
from .onnx_graph import Graph, Layout
from .tree_cache import TreeCache

OPSET = 23  # the first with RMSNormalization and RotaryEmbedding
_ALIKE = 1e-5  # what two ways to compute a norm or a rotation may differ by, in float32


class Pass(nn.Module):
    """The model's forward pass as a function of tensors alone."""

    def __init__(self, model: PreTrainedModel, layout: Layout, apart: bool):
        super().__init__()
        self.model, self._layout, self._apart = model, layout, apart

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        rows: Tensor,
        top: Tensor,
        masks: list[Tensor],
        past: list[Tensor],
    ) -> tuple[Tensor, ...]:
        cache, layers = Past(past, self._layout.shapes, self._apart), self._layout.state_layers
        kinds = dict(zip(self._layout.kinds, masks, strict=True))
        output = self.model(
            input_ids=input_ids,
            position_ids=position_ids,
            attention_mask=kinds if len(kinds) > 1 else masks[0],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=rows,
            output_hidden_states=bool(layers),
            return_dict=True,
        )
        logits = output.logits.flatten(0, 1)
        best = logits.topk(top.shape[0])
        leader = best.values[:, :1]
        log_normalizers = leader + (logits - leader).exp().sum(-1, keepdim=True).log()
        answer = [logits, log_normalizers[:, 0], best.values - log_normalizers, best.indices]
        if layers:
            answer.append(torch.stack([output.hidden_states[layer] for layer in layers], 2))
        new = [by_token(each) for layer in cache.layers for each in layer.new]
        return *answer, *[torch.cat([new[number] for number in bank]) for bank in self._layout.banks.values()]


def why_not(model: PreTrainedModel, traits: Traits) -> str | None:
    """Why a pass of `model` is not exported, as far as that can be told without trying; None if it may work."""
    if model.device.type != "cpu" or model.dtype != torch.float32:
        return f"it is in {str(model.dtype).removeprefix('torch.')} on {model.device.type}, not in float32 on a CPU"
    held = [*model.parameters()]
    if {p.dtype for p in held} != {torch.float32} or any(type(p.data) is not Tensor for p in held):
        return "its weights are quantized, of several dtypes, or shared out among processes"
    if getattr(model, "hf_device_map", None):
        return "a device map moves its weights"
    if not (traits.takes_positions and traits.keeps_logits) or traits.alibi:
        return "it takes no position_ids or logits_to_keep"
    if traits.rope is not None:
        return "its rotary frequencies depend on the length of the text"
    if model.training:
        return "it is in training mode"
    return None


def layout_of(model: PreTrainedModel, traits: Traits, state_layers: tuple[int, ...]) -> Layout:
    """Read off what the model puts into a cache for one token."""
    cache = TreeCache()
    token = torch.zeros(1, 1, dtype=torch.long)
    model(input_ids=token, position_ids=token, past_key_values=cache, use_cache=True, logits_to_keep=1)
    shapes = [(buffer.shape[1], buffer.shape[3]) for layer in cache.layers for buffer in layer.buffers]
    return Layout(traits.kinds, shapes, state_layers)


def weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and buffers of `model` by name; one that is shared has several."""
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


@torch.no_grad()
def exported(model: PreTrainedModel, traits: Traits, layout: Layout) -> Graph:
    """The graph of `model`; every weight is named as in the model and stands elsewhere.

    Takes a minute or more for a model of 30 layers. Raises whatever PyTorch's exporter raises where it cannot.
    """
    from .onnx_rewrite import translated_attention, weightless  # a second, for those who export

    apart = traits.by_name and getattr(model.config, ATTENTION, None) == "sdpa"
    batch, rows, slots = 2, 3, 5
    past = [torch.randn(batch, slots, heads * dim) for heads, dim in layout.shapes]
    masks = [torch.zeros(batch, 1, rows, slots + rows) for _ in layout.kinds]
    ids = torch.randint(0, 8, (batch, rows))
    example = (ids, ids + slots, torch.arange(rows), torch.zeros(4, dtype=torch.long), masks, past)
    some = torch.export.Dim.DYNAMIC
    dynamic = (
        *({0: some, 1: some}, {0: some, 1: some}, {0: some}, {0: some}),
        [{0: some, 2: some, 3: some} for _ in masks],
        [{0: some, 1: some} for _ in past],
    )
    with _as_exported(model, apart):
        program = torch.export.export(Pass(model, layout, apart), example, dynamic_shapes=dynamic, strict=False)
    translated = torch.onnx.export(
        program,
        example,
        dynamo=True,
        opset_version=OPSET,
        input_names=layout.inputs,
        output_names=layout.outputs,
        optimize=False,
        verbose=False,
        custom_translation_table={torch.ops.specbeam.tree_attention.default: translated_attention()},
    )
    assert translated is not None
    return Graph(weightless(translated.model, weights(model), layout))


@contextmanager
def _as_exported(model: PreTrainedModel, apart: bool) -> Iterator[None]:
    """Within, the model's attention, norms and rotations are those of the graph."""
    config = text_config(model)
    with ExitStack() as undone:
        if apart:
            undone.callback(setattr, config, ATTENTION, getattr(config, ATTENTION))
            setattr(config, ATTENTION, EXPORTED)
        for norm in model.modules():
            if (plain := _rms_norm(norm)) is not None:
                norm.forward = plain
                undone.callback(delattr, norm, "forward")
        code: Any = sys.modules[type(model).__module__]
        if (own := getattr(code, "apply_rotary_pos_emb", None)) is not None and _rotates_halves(own):
            undone.callback(setattr, code, "apply_rotary_pos_emb", own)
            code.apply_rotary_pos_emb = partial(_rotated, own)
        yield


def _rms_norm(norm: Any) -> Any:
    """PyTorch's norm by the root mean square, if a trial shows that `norm` is that; Gemma adds one to its weight."""
    weight, own = getattr(norm, "weight", None), [name for name, _ in norm.named_parameters()]
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if own != ["weight"] or not isinstance(weight, Tensor) or weight.dim() != 1 or not isinstance(eps, float):
        return None
    trial = torch.randn(2, len(weight))
    for scale in (lambda: norm.weight, lambda: 1.0 + norm.weight):  # looked up anew, as an export tells weights apart

        def plain(hidden_states: Tensor, scale: Callable[[], Tensor] = scale) -> Tensor:
            return F.rms_norm(hidden_states, weight.shape, scale(), eps)

        try:
            if torch.allclose(norm(trial), plain(trial), rtol=_ALIKE, atol=_ALIKE):
                return plain
        except (RuntimeError, TypeError):
            return None
    return None


def _rotated(
    own: Callable[..., Any], q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    """Both turned by position: (batch, heads, rows, head dim), with cosines and sines (batch, rows, head dim).

    Heads of which only a part is turned are left to the family's `own` function.
    """
    if cos.shape[-1] != q.shape[-1]:
        return own(q, k, cos, sin, *args, **options)
    half, turned = cos.shape[-1] // 2, []
    for each in (q, k):
        heads = each.shape[1]
        found = torch.onnx.ops.rotary_embedding(by_token(each), cos[..., :half], sin[..., :half], num_heads=heads)
        turned.append(by_head(found, heads))
    return turned[0], turned[1]


def _rotates_halves(own: Callable[..., Any]) -> bool:
    """Whether a family's own function turns the two halves of a head against each other, as most do."""
    angles = torch.randn(2, 3, 4)
    cos, sin = (torch.cat([each, each], -1) for each in (angles.cos(), angles.sin()))
    heads = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 3, 8)
    try:
        pairs = zip(own(*heads, cos, sin), _rotated(own, *heads, cos, sin), strict=True)
        return all(torch.allclose(a, b, rtol=_ALIKE, atol=_ALIKE) for a, b in pairs)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
