"""What a record says of the models: names that mean something elsewhere, sizes, and chat."""

from types import SimpleNamespace

import pytest
import torch
from tiny_models import chat_tokenizer, tiny_llama

from specbeam.drafts.model import ModelDraft
from specbeam.drafts.recall import NgramDraft
from specbeam.experiments.record_models import describe, model_name
from specbeam.experiments.records import RunRecord
from specbeam.reports.facts import Run, model, provenance

NAMES = {
    "/home/ada/.cache/specbeam/SmolLM2-135M-Instruct-68c5f5ba48ad": "SmolLM2-135M-Instruct",
    r"C:\Users\Ada\AppData\Local\specbeam\SmolLM2-135M-Instruct-68c5f5ba48ad": "SmolLM2-135M-Instruct",
    "/data/hub/models--Qwen--Qwen2.5-3B-Instruct/snapshots/0a1b2c": "Qwen/Qwen2.5-3B-Instruct",
    "/data/hub/models--gpt2": "gpt2",
    "Qwen/Qwen2.5-3B-Instruct": "Qwen/Qwen2.5-3B-Instruct",
    "models/my-own": "models/my-own",
    "SmolLM2-135M-Instruct-tuned": "SmolLM2-135M-Instruct-tuned",
}


@pytest.mark.parametrize(("found", "name"), NAMES.items())
def test_a_model_out_of_a_cache_has_its_own_name(found, name):
    assert model_name(found) == name


def pair(**changes):
    target = tiny_llama()
    target.config._name_or_path = "/home/ada/.cache/specbeam/SmolLM2-135M-Instruct-68c5f5ba48ad"
    fields = {"name": "toy + ngram", "draft": NgramDraft(), "tokenizer": chat_tokenizer()}
    return SimpleNamespace(target=target, **{**fields, **changes})


def test_a_target_has_a_size_and_says_whether_it_knows_chat():
    described = describe(pair())
    target = described["models"]["target"]
    size = sum(parameter.numel() for parameter in tiny_llama().parameters())
    assert target["parameters"] == size
    assert (target["name"], target["chat_template"]) == ("SmolLM2-135M-Instruct", True)
    assert described["dtype"] == target["dtype"] == str(tiny_llama().dtype).removeprefix("torch.")
    untrained = pair(tokenizer=chat_tokenizer(None))
    assert describe(untrained)["models"]["target"]["chat_template"] is False
    assert "chat_template" not in describe(pair(tokenizer=None))["models"]["target"]


def test_a_draft_that_is_a_model_has_its_name_and_size():
    small = tiny_llama()
    small.config._name_or_path = "owner/small"
    draft = describe(pair(draft=ModelDraft(small)))["models"]["draft"]
    assert (draft["class"], draft["name"]) == ("ModelDraft", "owner/small")
    assert draft["parameters"] == small.num_parameters()
    assert describe(pair())["models"]["draft"] == {"class": "NgramDraft"}


def test_nothing_is_said_without_a_target():
    assert describe(None) == describe(SimpleNamespace(target=None)) == {}


def test_pages_show_no_cache_folder_of_an_older_record_either():
    folder = "/home/ada/.cache/specbeam/SmolLM2-135M-Instruct-68c5f5ba48ad"
    record = RunRecord("01_toy", models={"pair": f"{folder} + auto", "target": {"class": "Llama", "name": folder}})
    assert model(record) == "SmolLM2-135M-Instruct + auto"
    shown = dict(provenance(Run("01_toy", "?", record, None)))
    assert shown["target"] == "SmolLM2-135M-Instruct, class Llama"
    assert not [value for value in shown.values() if "ada" in value]


def test_the_record_holds_no_cache_folder():
    record = RunRecord.collect("01_toy", {}, {}, pair=pair())
    assert "ada" not in str(record.models)
    assert record.device == "cpu" and record.dtype and torch.__version__.startswith(record.versions["torch"])
