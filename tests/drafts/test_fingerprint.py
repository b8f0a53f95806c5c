"""A target's fingerprint: the same in any dtype or layout, another for another model of its shape."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from tiny_models import tiny_llama

from specbeam.drafts.fingerprint import EMBEDDING, fingerprint, matches
from specbeam.engines.packing import PackedLinear, pack_linear
from specbeam.evaluation.tiny_families import FAMILIES, tiny_model

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def stored(model: Any) -> Any:
    """A fingerprint as it comes out of a file."""
    return json.loads(json.dumps(fingerprint(model)))


@pytest.mark.parametrize("written", DTYPES)
@pytest.mark.parametrize("read", DTYPES)
def test_the_dtype_makes_no_other_model(written: torch.dtype, read: torch.dtype) -> None:
    checkpoint = tiny_llama(torch.float32, spread=0.02)
    record = stored(copy.deepcopy(checkpoint).to(written))
    assert len(record) == 4 and matches(record, copy.deepcopy(checkpoint).to(read))
    assert not matches(record, tiny_llama(read, spread=0.0201).to(read))


def test_nor_does_packing() -> None:
    model = tiny_llama(torch.float32, size=128)
    record = stored(model)
    packed = pack_linear(copy.deepcopy(model))
    layers = [packed.get_submodule(name) for name in record if name != EMBEDDING]
    assert layers and all(isinstance(layer, PackedLinear) and layer.weight.is_meta for layer in layers)
    assert stored(packed) == record and matches(record, packed)
    assert not matches(record, pack_linear(tiny_llama(torch.float32, size=128, spread=0.31)))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75])
def test_a_model_that_was_trained_further_is_another(share: float) -> None:
    model = tiny_llama(torch.float32)
    record, tuned = stored(model), copy.deepcopy(model)
    names = list(record)
    name = names[int(share * 4)]
    layer = tuned.get_input_embeddings() if name == EMBEDDING else tuned.get_submodule(name)
    layer.weight.add_(1e-4 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1)))
    assert matches(record, model) and not matches(record, tuned)


def test_what_cannot_be_compared_makes_no_difference() -> None:
    record = stored(tiny_llama())
    assert matches({}, tiny_llama())
    assert matches(record, tiny_llama(size=64))  # the shape is for others to look at
    assert matches({"model.layers.99.mlp.up_proj": record[EMBEDDING]}, tiny_llama())
    away = tiny_llama(spread=0.2).to("meta")
    assert fingerprint(away) == {} and matches(record, away)


def test_every_family_has_one() -> None:
    for family in FAMILIES:
        model = tiny_model(family)
        record = stored(model)
        assert EMBEDDING in record and matches(record, model), family.name
