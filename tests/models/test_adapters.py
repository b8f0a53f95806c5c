"""Folders with adapters of PEFT: loaded with their base model, or refused with the remedy."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft_models import needs_peft, saved_lora
from small_folders import WORDS, make_tokenizer, save_llama
from transformers import AutoModelForCausalLM

import specbeam as sb
from specbeam.models import adapters

PROMPTS = {"input_ids": torch.tensor([[2, 3, 4, 5, 2], [5, 5, 3, 2, 7]]), "attention_mask": torch.ones(2, 5).long()}
OPTIONS = {"max_new_tokens": 10, "num_beams": 3, "eos_token_id": 7, "pad_token_id": 0}


@pytest.fixture
def base(tmp_path: Path) -> str:
    return save_llama(tmp_path / "base", layers=2, dtype=torch.float64)


def tokens(model: Any) -> list[list[int]]:
    return model.generate(**PROMPTS, **OPTIONS).tolist()


def through(pair: sb.Pair) -> list[list[int]]:
    return tokens(sb.SpeculativeLM(pair.target, pair.draft))


def test_the_folder_of_an_adapter_loads_its_base_model_and_its_tokenizer(tmp_path: Path, base: str) -> None:
    peft = needs_peft()
    folder = tmp_path / "adapter"
    wanted = tokens(saved_lora(folder, base))
    pair = sb.load_pair(folder, device="cpu")
    assert isinstance(pair.target, peft.PeftModel) and pair.name == f"{folder} + auto"
    assert not pair.target.training and not any(one.requires_grad for one in pair.target.parameters())
    assert pair.tokenizer.get_vocab() == make_tokenizer().get_vocab()
    assert pair.target.dtype == torch.float64
    plain = tokens(AutoModelForCausalLM.from_pretrained(base))
    assert through(pair) == wanted != plain
    with pair.target.disable_adapter():
        assert through(pair) == plain
    assert through(pair) == wanted


def test_an_adapter_drafts_from_its_folder_or_loaded(tmp_path: Path, base: str) -> None:
    peft = needs_peft()
    small = save_llama(tmp_path / "small", layers=1, dtype=torch.float64)
    model = saved_lora(tmp_path / "adapter", small)
    wanted = tokens(AutoModelForCausalLM.from_pretrained(base))
    for draft in (tmp_path / "adapter", model):
        pair = sb.load_pair(base, draft=draft, device="cpu", packed=False)
        assert isinstance(pair.draft, sb.ModelDraft) and isinstance(pair.draft.model, peft.PeftModel)
        assert through(pair) == wanted


def test_an_adapters_own_tokenizer_goes_before_that_of_its_base(tmp_path: Path, base: str) -> None:
    needs_peft()
    saved_lora(tmp_path / "adapter", base)
    swapped = [*WORDS[:2], "world", "hello", *WORDS[4:]]
    make_tokenizer(swapped).save_pretrained(tmp_path / "adapter")
    assert sb.load_pair(tmp_path / "adapter", device="cpu").tokenizer.convert_tokens_to_ids("world") == 2


def test_a_model_with_an_adapter_beside_its_weights_is_loaded_with_it(tmp_path: Path, base: str) -> None:
    needs_peft()
    wanted = tokens(saved_lora(tmp_path / "adapter", base))
    for file in (tmp_path / "adapter").glob("adapter_*"):
        shutil.copy(file, base)
    pair = sb.load_pair(base, device="cpu")
    assert through(pair) == wanted
    pair.target.disable_adapters()
    assert through(pair) != wanted


def test_adapters_are_not_packed(tmp_path: Path) -> None:
    needs_peft()
    base = save_llama(tmp_path / "base", layers=1)
    wanted = tokens(saved_lora(tmp_path / "adapter", base))
    assert through(sb.load_pair(tmp_path / "adapter", device="cpu")) == wanted
    with pytest.raises(ValueError, match=r"adapters cannot be packed.*merge_and_unload"):
        sb.load_pair(tmp_path / "adapter", device="cpu", packed=True)


def test_a_compiled_adapter_decodes_alike(tmp_path: Path, base: str) -> None:
    needs_peft()
    wanted = tokens(saved_lora(tmp_path / "adapter", base))
    pair = sb.load_pair(tmp_path / "adapter", device="cpu", compile={"backend": "eager", "dynamic": True})
    assert through(pair) == wanted


def test_an_adapter_around_the_model_is_refused_before_its_base_is_loaded(tmp_path: Path, base: str) -> None:
    peft = needs_peft()
    model = AutoModelForCausalLM.from_pretrained(base)
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    peft.get_peft_model(model, config).save_pretrained(tmp_path / "adapter")
    shutil.rmtree(base)
    given: dict[str, Any]
    for given in (
        {"target": tmp_path / "adapter"},
        {"draft": tmp_path / "adapter", "target": save_llama(tmp_path / "t")},
    ):
        with pytest.raises(ValueError, match=r"PROMPT_TUNING.*virtual tokens.*LoRA"):
            sb.load_pair(**given, device="cpu")


def test_what_is_missing_of_an_adapter_is_named(tmp_path: Path, base: str) -> None:
    needs_peft()
    folder = tmp_path / "adapter"
    saved_lora(folder, base)
    about = json.loads((folder / "adapter_config.json").read_text())

    def refused(words: str) -> None:
        with pytest.raises(ValueError, match=words):
            sb.load_pair(folder, device="cpu")

    (folder / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": None}))
    refused(r"names no base model.*base_model_name_or_path")
    (folder / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": "/not/there"}))
    refused("base model of the target folder '/not/there' does not exist")
    other = save_llama(tmp_path / "wide", words=[*WORDS, "extra"], layers=1)
    (folder / "adapter_config.json").write_text(json.dumps({**about, "base_model_name_or_path": other}))
    weights = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights[:-9])
    refused("truncated: adapter_model.safetensors")
    (folder / "adapter_model.safetensors").unlink()
    refused("has an adapter_config.json, but no adapter_model.safetensors")


def test_an_adapter_that_does_not_fit_its_base_is_refused_with_the_way_out(tmp_path: Path, base: str) -> None:
    needs_peft()
    folder = tmp_path / "adapter"
    model = saved_lora(folder, base)
    model.get_base_model().resize_token_embeddings(len(WORDS) + 3)
    model.save_pretrained(folder, save_embedding_layers=True)
    with pytest.raises(ValueError, match=r"does not fit its base model.*Pair\(target="):
        sb.load_pair(folder, device="cpu")


def test_without_peft_an_adapter_is_refused_and_the_package_named(
    tmp_path: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # as if it were not installed
    folder = tmp_path / "adapter"
    folder.mkdir()
    about = {"peft_type": "LORA", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    remedy = "is an adapter, which needs the package peft; run: pip install peft"
    given: dict[str, Any]
    for given in ({"target": folder}, {"target": base, "draft": folder}):
        with pytest.raises(ValueError, match=remedy):
            sb.load_pair(**given, device="cpu")
    shutil.copy(folder / "adapter_config.json", base)  # a whole model with an adapter beside it
    with pytest.raises(ValueError, match=remedy):
        sb.load_pair(base, device="cpu")


def test_a_loaded_target_belongs_into_a_pair(base: str) -> None:
    with pytest.raises(ValueError, match=r"target is a LlamaForCausalLM.*Pair\(target=model"):
        sb.load_pair(AutoModelForCausalLM.from_pretrained(base))  # type: ignore[arg-type]


def test_a_hub_id_is_asked_for_an_adapter_once_and_without_a_network_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({"base_model_name_or_path": "some/base"}))
    asked: list[Any] = []

    def exists(name: str, wanted: str, *, revision: str | None) -> bool:
        asked.append((name, wanted, revision))
        if name == "no/network":
            raise OSError("Name or service not known")
        return name == "some/adapter"

    monkeypatch.setattr(adapters, "file_exists", exists)
    monkeypatch.setattr(adapters, "find_adapter_config_file", lambda name, revision: str(file))
    assert adapters.adapter_config("some/adapter", "v1") == {"base_model_name_or_path": "some/base"}
    assert adapters.adapter_config("some/model", None) is adapters.adapter_config("no/network", None) is None
    assert asked[0] == ("some/adapter", "adapter_config.json", "v1") and len(asked) == 3
