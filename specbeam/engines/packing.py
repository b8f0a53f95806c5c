"""Faster passes over a few rows on a CPU: weights of linear layers laid out once for oneDNN.

A decoder's pass covers one to a few dozen tokens. PyTorch's product for so few rows reads the weights in an
order that wastes memory bandwidth; oneDNN's blocked layout, made once, does not. The arithmetic is the same
up to the order of additions. The operators are the ones that `torch.compile` with frozen weights uses.

A packed model is still the same Hugging Face model and `generate` works. What it cannot do is be saved,
trained or moved, as most of its dense weights are gone; those calls say so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from specbeam.compat import packed_linear, packed_weight

ROWS = 16  # a hint to oneDNN; layouts chosen for 8 to 256 rows were equally fast at any number of rows
SMALLEST = 4096  # weights below this many elements stay as they are: the call costs more than the product
PACKABLE_DTYPES = (torch.float32, torch.bfloat16)
GONE = "its dense weights are gone; load it with packed=False (load_pair(…, packed=False))"


class _Packed:
    """Holds one packed weight. It is never written to, so that copies of a model may share it."""

    def __init__(self, weight: torch.Tensor):
        self.weight = packed_weight(weight, ROWS)

    def __deepcopy__(self, memo: dict) -> "_Packed":
        return self

    def __reduce__(self) -> Any:
        raise ValueError(f"a packed model cannot be pickled: {GONE}")


class PackedLinear(nn.Linear):
    """An nn.Linear whose forward uses a packed weight; (…, in_features) → (…, out_features).

    `weight` keeps its shape and dtype, but is on the meta device unless another module shares it.
    """

    packed: _Packed

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return packed_linear(input, self.packed.weight, self.bias)


def packable(model: PreTrainedModel) -> bool:
    """Whether `pack_linear` can do anything for this model here.

    True on a CPU with a dtype that this machine's oneDNN computes correctly (checked on a small product
    against float64), for a model that is not spread by a device map and has linear layers.
    """
    if getattr(model, "hf_device_map", None) or not _candidates(model):
        return False
    return _correct(next(iter(_candidates(model))).weight.dtype)


def pack_linear(model: PreTrainedModel) -> PreTrainedModel:
    """Pack the linear layers of `model` in place and return it.

    Only plain `nn.Linear` layers in float32 or bfloat16 on the CPU are packed; Conv1D (GPT-2) and quantized
    layers stay as they are. A dense weight is freed as soon as its packed copy exists, unless another module
    shares it (a head tied to the embedding), so memory grows by shared weights only. A short pass before and
    after guards against architectures that read `weight` directly: those are put back as they were.

    Raises ValueError if there is nothing to pack here, or if packing changes what the model computes.
    """
    if not packable(model):
        raise ValueError(
            "this model cannot be packed: it needs a CPU, float32 or bfloat16, no device map and nn.Linear "
            'layers; load it with packed="auto" or packed=False'
        )
    embedding: Any = model.get_input_embeddings().weight
    probe = torch.arange(4)[None] % embedding.shape[0]
    before = _logits(model, probe)
    shared = _shared_weights(model)
    layers = _candidates(model)
    _pack(layers, shared)
    try:
        after = _logits(model, probe)
        noise = 2e-4 if before.dtype == torch.float32 else 0.1
        scale = float(before.abs().max().clamp(min=1))
        same = torch.allclose(after.float(), before.float(), rtol=0, atol=noise * scale)
        problem = None if same else ValueError("its logits change")
    except Exception as error:  # whatever an unforeseen architecture raises, the model must come back whole
        problem = error
    if problem is not None:
        for layer in layers:
            _unpack(layer)
        raise ValueError(f"{type(model).__name__} cannot be packed ({problem}); load it with packed=False") from problem
    for parameter in model.parameters():
        if not parameter.is_meta:  # out of the mapped checkpoint, which would stay in memory for these few
            parameter.data = parameter.data.clone()
    kind = type(model)
    model.__class__ = type(kind.__name__, (_Refusals, kind), {"__module__": kind.__module__})
    return model


@contextmanager
def packed_meanwhile(model: PreTrainedModel) -> Iterator[None]:
    """Within, the linear layers are packed beside their dense weights; afterwards they are as before."""
    layers = _candidates(model)
    try:
        _pack(layers, {id(layer.weight) for layer in layers})
        yield
    finally:
        for layer in layers:
            if isinstance(layer, PackedLinear):
                _unpack(layer)


def pack_layers(module: nn.Module) -> None:
    """Pack all plain linear layers of any module in place, without looking whether it computes the same."""
    _pack([layer for layer in module.modules() if type(layer) is nn.Linear], set())


def dense_weight(layer: nn.Module) -> torch.Tensor | None:
    """The weight of a layer as plain numbers, unpacked if it is packed.

    None if it has another form: quantized, shared out among processes, or not in memory.
    """
    weight: Any = getattr(layer, "weight", None)
    if isinstance(layer, PackedLinear) and weight.is_meta:
        return layer.packed.weight.to_dense()
    if not isinstance(weight, torch.Tensor) or type(weight.data) is not torch.Tensor:
        return None
    return None if weight.is_meta or not weight.is_floating_point() else weight.detach()


def packs(dtype: torch.dtype) -> bool:
    """Whether this machine's oneDNN multiplies packed weights of `dtype` correctly."""
    return dtype in PACKABLE_DTYPES and _correct(dtype)


@torch.no_grad()
def _pack(layers: list[nn.Linear], shared: set[int]) -> None:
    for layer in layers:
        layer.packed = _Packed(layer.weight)  # type: ignore[assignment]
        layer.__class__ = PackedLinear
        if id(layer.weight) not in shared:
            layer.weight = nn.Parameter(layer.weight.to("meta"), requires_grad=False)


class _Refusals:
    """Mixed in front of a packed model's class, which keeps its name: the calls that need dense weights."""

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(f"a packed model cannot be saved: {GONE}")

    def train(self, mode: bool = True) -> Any:
        if mode:
            raise ValueError(f"a packed model cannot be trained: {GONE}")
        return nn.Module.train(self, False)  # type: ignore[arg-type]  # eval() comes through here

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Stands behind to(), cuda() and half(): fine where they change nothing."""
        weight = self.get_input_embeddings().weight  # type: ignore[attr-defined]
        moved = fn(weight[:0])
        if moved.device == weight.device and moved.dtype == weight.dtype:
            return self
        raise ValueError(f"a packed model cannot be moved or converted: {GONE}")


def _candidates(model: PreTrainedModel) -> list[nn.Linear]:
    """The layers to pack: exactly nn.Linear, as subclasses (quantized, adapters) have their own forwards."""
    return [
        module
        for module in model.modules()
        if type(module) is nn.Linear
        and type(module.weight.data) is torch.Tensor  # not the share of one of several processes
        and module.weight.device.type == "cpu"
        and module.weight.dtype in PACKABLE_DTYPES
        and module.weight.numel() >= SMALLEST
    ]


def _shared_weights(model: PreTrainedModel) -> set[int]:
    """Ids of the parameters that more than one module holds."""
    seen: set[int] = set()
    shared: set[int] = set()
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                (shared if id(parameter) in seen else seen).add(id(parameter))
    return shared


def _unpack(layer: nn.Linear) -> None:
    """Give a layer its dense weight and its own class back; the layout is undone exactly."""
    if layer.weight.is_meta:
        layer.weight = nn.Parameter(layer.packed.weight.to_dense(), requires_grad=False)  # type: ignore[union-attr]
    del layer.packed
    layer.__class__ = nn.Linear


def _correct(dtype: torch.dtype) -> bool:
    """Whether the operators exist here and one product is right to within rounding of `dtype`."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 64, generator=generator).to(dtype)
    rows = torch.randn(5, 64, generator=generator).to(dtype)
    exact = rows.double() @ weight.double().T
    try:
        got = packed_linear(rows, _Packed(weight).weight, None)
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool((got.double() - exact).abs().max() <= 64 * torch.finfo(dtype).eps * exact.abs().max())


@torch.no_grad()
def _logits(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, use_cache=False).logits
