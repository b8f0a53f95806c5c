"""Packed weights: same model, same logits within rounding, honest refusals."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from specbeam.engines import packing
from specbeam.engines.packing import PackedLinear, pack_linear, packable


def make_llama(tied=False, dtype=torch.float32) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=96,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    model: Any = LlamaForCausalLM(config)
    return model.to(dtype).eval().requires_grad_(False)


IDS = torch.arange(24).reshape(2, 12)
if not packable(make_llama()):
    pytest.skip("this PyTorch has no oneDNN linear operators", allow_module_level=True)


@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_as_close_to_float64_as_those_of_the_dense_model(tied):
    dense = make_llama(tied)
    exact = copy.deepcopy(dense).double()(IDS).logits
    packed = pack_linear(make_llama(tied))
    dense_error = (dense(IDS).logits - exact).abs().max()
    assert (packed(IDS).logits - exact).abs().max() <= 4 * dense_error


@pytest.mark.skipif(not packing.packs(torch.bfloat16), reason="this machine's oneDNN does not pack bfloat16 correctly")
def test_bfloat16_logits_agree_within_its_rounding():
    dense, packed = make_llama(dtype=torch.bfloat16), pack_linear(make_llama(dtype=torch.bfloat16))
    assert torch.allclose(packed(IDS).logits, dense(IDS).logits, atol=0.02)


def test_a_packed_model_is_still_its_hugging_face_class_and_generates_the_same():
    dense = make_llama()
    packed: Any = pack_linear(make_llama())
    assert type(packed).__name__ == "LlamaForCausalLM"
    assert LlamaForCausalLM in type(packed).__mro__
    options = dict(attention_mask=torch.ones_like(IDS), max_new_tokens=8, num_beams=3, do_sample=False, pad_token_id=0)
    assert torch.equal(packed.generate(IDS, **options), dense.generate(IDS, **options))
    assert packed.num_parameters() == dense.num_parameters()
    assert (packed.dtype, packed.device) == (dense.dtype, dense.device)


def test_dense_weights_are_freed_unless_the_embedding_shares_them():
    untied: Any = pack_linear(make_llama())
    tied: Any = pack_linear(make_llama(tied=True))
    layers = [module for module in untied.modules() if isinstance(module, PackedLinear)]
    assert len(layers) == 2 * 5 + 1  # q, o, gate, up, down of two layers, and the head; k and v are too small
    assert all(layer.weight.is_meta for layer in layers)
    assert not untied.model.embed_tokens.weight.is_meta
    assert isinstance(tied.lm_head, PackedLinear)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    assert not tied.lm_head.weight.is_meta


def test_layers_with_a_bias_and_strided_inputs_are_served():
    packed = nn.Linear(64, 96)
    dense = copy.deepcopy(packed)
    packed.packed = packing._Packed(packed.weight)  # type: ignore[assignment]
    packed.__class__ = PackedLinear
    strided = torch.randn(3, 64, 5).transpose(1, 2)
    for rows in (strided, torch.randn(64), torch.randn(2, 0, 64)):
        assert torch.allclose(packed(rows), dense(rows), atol=1e-5)


def test_what_needs_dense_weights_is_refused_with_the_remedy(tmp_path):
    packed: Any = pack_linear(make_llama())
    assert packed.eval() is packed
    assert packed.to("cpu") is packed
    calls = (
        lambda: packed.save_pretrained(tmp_path / "saved"),
        lambda: packed.train(),
        lambda: packed.half(),
        lambda: packed.to(torch.float64),
    )
    for call in calls:
        with pytest.raises(ValueError, match="packed=False"):
            call()
    assert not packed.training
    assert not (tmp_path / "saved").exists()


def test_a_packed_model_can_be_copied():
    packed = pack_linear(make_llama())
    assert torch.equal(copy.deepcopy(packed)(IDS).logits, packed(IDS).logits)


class ReadsWeight(LlamaForCausalLM):
    """Multiplies by a layer's weight itself, as some routers do."""

    def forward(self, *args, **kwargs):
        output: Any = super().forward(*args, **kwargs)
        output.logits = output.logits + self.lm_head.weight.sum()
        return output


def test_an_architecture_that_reads_weights_directly_comes_back_whole():
    model = make_llama()
    model.__class__ = ReadsWeight
    before = model(IDS).logits
    with pytest.raises(ValueError, match="cannot be packed"):
        pack_linear(model)
    assert torch.equal(model(IDS).logits, before)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_what_cannot_be_packed_is_said_and_left_alone():
    assert not packable(make_llama(dtype=torch.float64))
    with pytest.raises(ValueError, match="packed=False"):
        pack_linear(make_llama(dtype=torch.float64))


def test_conv1d_layers_of_gpt2_stay_as_they_are():
    config = GPT2Config(vocab_size=96, n_embd=64, n_layer=1, n_head=2, n_positions=32)
    dense = GPT2LMHeadModel(config).eval().requires_grad_(False)
    packed = pack_linear(copy.deepcopy(dense))
    names = [name for name, module in packed.named_modules() if isinstance(module, PackedLinear)]
    assert names == ["lm_head"]
    assert torch.allclose(packed(IDS).logits, dense(IDS).logits, atol=1e-5)


def test_without_the_operators_nothing_is_packable(monkeypatch):
    def absent(*args):
        raise AttributeError("no such operator")

    monkeypatch.setattr(packing, "_Packed", absent)
    assert not packable(make_llama())
