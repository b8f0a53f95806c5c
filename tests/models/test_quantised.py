"""Quantised targets decode as transformers' `generate` does on the same weights, and load by their configuration.

`Rounder` is a quantizer as transformers knows them, small enough to need no package; the tests further down run those
of real packages, where they are installed.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import fake_pair
from tiny_models import chat_tokenizer, tiny_llama
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedModel
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

import specbeam as sb
from specbeam.drafts.eagle import EagleDraft
from specbeam.drafts.logit_head import LogitHead
from specbeam.drafts.trained import load_draft, new_draft, save_draft
from specbeam.engines import latency
from specbeam.engines.draft_size import LatencyCurve
from specbeam.engines.packing import PackedLinear, pack_linear
from specbeam.engines.target import Target
from specbeam.evaluation.agreement import agreement
from specbeam.evaluation.tiny_families import tiny_model
from specbeam.models.load import Pair, load_pair

PROMPT = torch.tensor([[1, 3, 5, 20, 9, 33]])
KEPT = torch.tensor([3, 19, 14, 7, 55])


class RoundedLinear(nn.Linear):
    """Weights as int8 with a scale for each row, as bitsandbytes keeps them: a subclass with a product of its own."""

    scale: Tensor

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__(inputs, outputs, bias=bias, device="meta")
        self.weight = nn.Parameter(torch.empty(outputs, inputs, dtype=torch.int8, device="meta"), requires_grad=False)
        self.register_buffer("scale", torch.empty(outputs, 1, device="meta"))

    @classmethod
    def of(cls, layer: nn.Linear) -> RoundedLinear:
        rounded = cls(layer.in_features, layer.out_features, layer.bias is not None)
        scale = layer.weight.detach().abs().amax(1, keepdim=True) / 127
        rounded.weight = nn.Parameter((layer.weight / scale).round().to(torch.int8), requires_grad=False)
        rounded.scale, rounded.bias = scale, layer.bias
        return rounded

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight.to(input.dtype) * self.scale.to(input.dtype), self.bias)


def round_layers(model: Any, head: bool = False) -> Any:
    """Every linear layer in int8, and the head too if asked for."""
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear and (head or layer is not model.get_output_embeddings()):
            model.set_submodule(name, RoundedLinear.of(layer))
    return model


class RoundedConfig(QuantizationConfigMixin):
    def __init__(self, **options: Any):
        self.quant_method: Any = "rounded"


class Rounder(HfQuantizer):
    requires_calibration = False
    placed: Any = None  # the device map of the last model

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **options: Any) -> None:
        Rounder.placed = options["device_map"]
        for name, layer in list(model.named_modules()):
            if self.pre_quantized and type(layer) is nn.Linear and layer is not model.get_output_embeddings():
                model.set_submodule(name, RoundedLinear(layer.in_features, layer.out_features))

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **options: Any) -> None:
        if not self.pre_quantized:
            round_layers(model)

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


register_quantization_config("rounded")(RoundedConfig)
register_quantizer("rounded")(Rounder)


def saved(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def folder(tmp_path: Path) -> str:
    config = tiny_llama(size=128).config
    config.intermediate_size = 128  # bitsandbytes has a smallest size, and packing has one
    torch.manual_seed(0)
    return saved(LlamaForCausalLM(config), tmp_path / "dense")


def kinds(model: Any) -> set[str]:
    return {type(layer).__name__ for layer in model.modules() if isinstance(layer, nn.Linear)}


def assert_equal_to_generate(pair: Pair, max_new_tokens: int = 12) -> None:
    """All four methods, with as many sequences as beams."""
    for name, method in sb.METHODS.items():
        options = {"num_beams": 4, "num_return_sequences": 4} if name.endswith("beam") else {}
        found = method(pair, {"input_ids": PROMPT}, max_new_tokens=max_new_tokens, **options)
        target: Any = pair.target
        wanted = target.generate(
            PROMPT,
            attention_mask=torch.ones_like(PROMPT),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=2,
            **options,
        )
        rows = [row[: row.index(2) + 1] if 2 in row else row for row in wanted[:, PROMPT.shape[1] :].tolist()]
        assert found.sequences == rows
        assert len({token for row in rows for token in row}) > 2  # one that says one thing only shows nothing


# --- no package needed


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "bloom", "qwen2"])
def test_a_quantised_model_in_a_pair_made_by_hand_decodes_as_generate_does(kind: str) -> None:
    model = round_layers(tiny_model(kind), head=True)
    assert "RoundedLinear" in kinds(model)
    assert_equal_to_generate(fake_pair(model, sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])))


@pytest.mark.parametrize("configuration", [RoundedConfig(), {"quant_method": "rounded"}], ids=["object", "dict"])
def test_a_target_is_quantised_while_it_loads(folder: str, configuration: Any) -> None:
    pair = load_pair(folder, device="cpu", quantization_config=configuration)
    dense = AutoModelForCausalLM.from_pretrained(folder)
    assert pair.target.model.layers[0].mlp.up_proj.weight.dtype == torch.int8
    assert (pair.target(PROMPT).logits - dense(PROMPT).logits).abs().max() > 1e-3
    assert not pair.target.training and not any(weight.requires_grad for weight in pair.target.parameters())
    assert_equal_to_generate(pair)


def test_a_folder_that_is_quantised_already_needs_no_word_of_it(folder: str, tmp_path: Path) -> None:
    first = load_pair(folder, device="cpu", packed=False, quantization_config=RoundedConfig())
    pair = load_pair(saved(first.target, tmp_path / "rounded"), device="cpu")
    assert pair.target.model.layers[0].mlp.up_proj.weight.dtype == torch.int8
    torch.testing.assert_close(pair.target(PROMPT).logits, first.target(PROMPT).logits, rtol=1e-4, atol=1e-4)
    assert_equal_to_generate(pair)


def test_a_quantised_target_is_made_on_the_device_it_shall_stay_on(folder: str, tmp_path: Path) -> None:
    first = load_pair(folder, device="cpu", packed=False, quantization_config=RoundedConfig())
    assert Rounder.placed == {"": torch.device("cpu")}
    Rounder.placed = None
    load_pair(saved(first.target, tmp_path / "rounded"), device="cpu", draft=folder)
    assert Rounder.placed == {"": torch.device("cpu")}
    load_pair(folder, device_map="auto", quantization_config=RoundedConfig())
    assert Rounder.placed is not None


def test_packing_leaves_quantised_layers_alone_and_packs_the_rest(folder: str) -> None:
    model = load_pair(folder, device="cpu", packed=False, quantization_config=RoundedConfig()).target
    before = model(PROMPT).logits
    packed: Any = pack_linear(model)
    assert type(packed.lm_head) is PackedLinear
    assert type(packed.model.layers[0].mlp.up_proj) is RoundedLinear
    torch.testing.assert_close(packed(PROMPT).logits, before, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="cannot be packed"):
        pack_linear(round_layers(tiny_llama(torch.float32), head=True))


def test_a_configuration_that_is_none_is_refused_with_examples(folder: str) -> None:
    with pytest.raises(ValueError, match=r"'int8' is no configuration.*BitsAndBytesConfig\(load_in_8bit=True\)"):
        load_pair(folder, device="cpu", quantization_config="int8")


def test_a_package_that_is_missing_is_named_with_its_pip_command(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.quantizers.quantizer_bnb_8bit.is_bitsandbytes_available", lambda: False)
    with pytest.raises(ValueError, match=r"cannot be loaded: .*requires bitsandbytes: `pip install") as caught:
        load_pair(folder, device="cpu", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    assert "folder is complete" not in str(caught.value)

    def import_it(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'torchao.quantization'", name="torchao.quantization")

    monkeypatch.setattr(Rounder, "_process_model_before_weight_loading", import_it)
    with pytest.raises(ValueError, match=r"cannot be loaded: No module named .*; run: pip install torchao$"):
        load_pair(folder, device="cpu", quantization_config=RoundedConfig())


def test_a_quantizer_that_fails_is_not_taken_for_a_damaged_folder(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("A GPU is needed for this.\nMore of it.")

    monkeypatch.setattr(Rounder, "_process_model_before_weight_loading", fail)
    with pytest.raises(ValueError, match=r"quantizing failed with RuntimeError: A GPU is needed for this\.$"):
        load_pair(folder, device="cpu", quantization_config=RoundedConfig())


def test_a_trained_draft_reads_a_quantised_head_by_its_answers(tmp_path: Path) -> None:
    target = round_layers(tiny_llama(), head=True)
    with torch.no_grad():
        output = target(PROMPT, output_hidden_states=True)
    head = LogitHead.of(target, KEPT)
    assert head.weight.shape == (len(KEPT), 32)
    torch.testing.assert_close(head(output.hidden_states[-1]), output.logits[..., KEPT])
    save_draft(new_draft(target, KEPT), tmp_path, "tiny")
    draft = EagleDraft(load_draft(tmp_path, target))
    found = sb.speculative(fake_pair(target, draft), {"input_ids": PROMPT}, max_new_tokens=8)
    assert found.stats.drafted > 0
    assert_equal_to_generate(fake_pair(target, draft))


def test_a_trained_draft_refuses_a_quantised_embedding(tmp_path: Path) -> None:
    target = tiny_llama()
    save_draft(new_draft(target, KEPT), tmp_path, "tiny")
    weight = target.model.embed_tokens.weight
    target.model.embed_tokens.weight = nn.Parameter(weight.to(torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"embedding of LlamaForCausalLM, which is quantized.*draft='recall'"):
        load_draft(tmp_path, target)


def test_the_costs_of_a_model_and_of_its_quantised_twin_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[Any] = []
    curve = LatencyCurve((1, 2), (1.0, 2.0))
    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path))
    monkeypatch.setattr(latency, "SMALLEST", 0)
    monkeypatch.setattr(latency, "measure_latency", lambda target: made.append(target.model) or curve)
    monkeypatch.setattr(latency.OthersLoad, "share", lambda load: 0.0)  # whatever else this machine does
    model = tiny_llama()
    twin = round_layers(copy.deepcopy(model))
    other: Any = copy.deepcopy(model)  # torchao keeps the layer and changes its weight
    other.lm_head.weight = nn.Parameter(other.lm_head.weight.to(torch.int8), requires_grad=False)
    for one in (model, twin, other, copy.deepcopy(model), copy.deepcopy(twin)):
        assert Target.of(one).latency == curve
    assert made == [model, twin, other]


# --- packages that are not needed otherwise


def of_torchao() -> Any:
    return pytest.importorskip("torchao.quantization", reason="int8 weights of torchao: pip install torchao")


def of_bitsandbytes() -> Any:
    pytest.importorskip("bitsandbytes", reason="8-bit and 4-bit weights: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig


def test_int8_weights_of_torchao_load_and_are_saved_and_decode_as_generate_does(folder: str, tmp_path: Path) -> None:
    torchao = of_torchao()
    from transformers import TorchAoConfig

    first = load_pair(folder, device="cpu", quantization_config=TorchAoConfig(torchao.Int8WeightOnlyConfig()))
    assert type(first.target.model.layers[0].mlp.up_proj.weight.data) is not Tensor
    assert type(first.target.lm_head) is PackedLinear
    assert_equal_to_generate(first)
    plain = load_pair(
        folder, device="cpu", packed=False, quantization_config=TorchAoConfig(torchao.Int8WeightOnlyConfig())
    )
    again = load_pair(saved(plain.target, tmp_path / "torchao"), device="cpu")
    assert type(again.target.model.layers[0].mlp.up_proj.weight.data) is not Tensor
    assert_equal_to_generate(again)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_model_that_torchao_quantised_in_place_decodes_as_generate_does(kind: str) -> None:
    torchao = of_torchao()
    model: Any = tiny_model(kind).float()
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    head = LogitHead.of(model)
    torch.testing.assert_close(head.weight, model.get_output_embeddings().weight.dequantize())
    assert_equal_to_generate(fake_pair(model, sb.RecallDraft()))


def test_a_model_of_bitsandbytes_in_4_bits_decodes_as_generate_does(folder: str) -> None:
    configuration = of_bitsandbytes()(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    pair = load_pair(folder, device="cpu", quantization_config=configuration)
    assert "Linear4bit" in kinds(pair.target)
    assert_equal_to_generate(pair)


def test_a_model_of_bitsandbytes_in_8_bits_decodes_as_generate_does_where_it_looks_at_rows_one_by_one(
    folder: str,
) -> None:
    """With outliers, a threshold above 0, columns are chosen for a whole pass: its rows change each other's answers."""
    configuration = of_bitsandbytes()(load_in_8bit=True, llm_int8_threshold=0.0)
    pair = load_pair(folder, device="cpu", quantization_config=configuration)
    assert "Linear8bitLt" in kinds(pair.target)
    torch.manual_seed(1)
    prompts = [{"input_ids": torch.randint(3, 40, (1, 5))} for _ in range(6)]
    for num_beams in (1, 4):
        found = agreement(pair, prompts, num_beams=num_beams, max_new_tokens=12)
        assert (found.rate, found.unexplained) == (1.0, [])
