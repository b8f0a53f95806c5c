"""Checkpoints with code of their own (`auto_map`): run only where they are trusted, and tried on a tree first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_folders import save_llama
from transformers import AutoModelForCausalLM

import specbeam as sb
from specbeam.engines.sequences import SequenceEngine
from specbeam.engines.target import Target
from specbeam.engines.torch_engine import TorchEngine

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class HouseConfig(LlamaConfig):
    model_type = "house"


class HouseForCausalLM(LlamaForCausalLM):
    config_class = HouseConfig

    def forward(self, input_ids=None, attention_mask=None, **options):
        CHANGED
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, **options)
"""
HEEDLESS = "attention_mask = None if attention_mask is not None and attention_mask.dim() == 4 else attention_mask"
PROMPTS = {"input_ids": torch.tensor([[2, 3, 4, 5, 2], [5, 5, 3, 2, 7]]), "attention_mask": torch.ones(2, 5).long()}


def house(folder: Path, changed: str = "pass", layers: int = 2) -> str:
    """A tiny Llama under another name, whose classes are in a file beside its weights."""
    save_llama(folder, layers=layers, dtype=torch.float64)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "house", "architectures": ["HouseForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "house.HouseConfig", "AutoModelForCausalLM": "house.HouseForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "house.py").write_text(CODE.replace("CHANGED", changed))
    return str(folder)


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies such code into a folder that it imports from."""
    import transformers.dynamic_module_utils as copied

    monkeypatch.setattr(copied, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def assert_as_generated(pair: sb.Pair, folder: str) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    wanted = model.generate(**PROMPTS, max_new_tokens=12, num_beams=3, eos_token_id=7, pad_token_id=0)
    lm = sb.SpeculativeLM(pair.target, pair.draft)
    found = lm.generate(**PROMPTS, max_new_tokens=12, num_beams=3, eos_token_id=7, pad_token_id=0)
    assert found.tolist() == wanted.tolist()


def test_a_folder_with_its_own_code_decodes_over_trees_where_it_is_trusted(tmp_path: Path) -> None:
    folder, draft = house(tmp_path / "target"), house(tmp_path / "draft", layers=1)
    pair = sb.load_pair(folder, draft=draft, device="cpu", trust_remote_code=True)
    assert [type(pair.target).__name__, type(pair.draft.model).__name__] == ["HouseForCausalLM"] * 2
    assert Target.of(pair.target).probe() is None
    assert isinstance(Target.of(pair.target).engine(), TorchEngine)
    assert_as_generated(pair, folder)


def test_own_code_that_does_not_heed_a_trees_mask_is_read_by_sequences(tmp_path: Path) -> None:
    folder = house(tmp_path / "target", HEEDLESS)
    pair = sb.load_pair(folder, draft="recall", device="cpu", trust_remote_code=True)
    with pytest.warns(UserWarning, match=r"HouseForCausalLM cannot verify a token tree.*does not heed"):
        assert isinstance(Target.of(pair.target).engine(), SequenceEngine)
    assert_as_generated(pair, folder)


def test_own_code_is_refused_by_name_unless_it_is_trusted(tmp_path: Path) -> None:
    folder, plain = house(tmp_path / "own"), save_llama(tmp_path / "plain", layers=3)
    remedy = r"brings code of its own.*load_pair\(…, trust_remote_code=True\)"
    with pytest.raises(ValueError, match=rf"target '{folder}' {remedy}"):
        sb.load_pair(folder, device="cpu")
    with pytest.raises(ValueError, match=rf"draft '{folder}' {remedy}"):
        sb.load_pair(plain, draft=folder, device="cpu")
    assert not (tmp_path / "modules").exists()  # nothing was copied, so nothing was run
