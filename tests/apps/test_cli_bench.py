"""`specbeam bench`, on fake models: what it passes on, and the record that it leaves."""

import json
from dataclasses import replace

import pytest
import torch
from fakes import fake_pair, hash_lm
from typer.testing import CliRunner

import specbeam as sb
from specbeam.apps.cli.main import app
from specbeam.evaluation.bench import measure, runners
from specbeam.evaluation.bench.cases import ALL
from specbeam.evaluation.bench.runners import Contenders


def command(*arguments):
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_the_command_leaves_a_record(monkeypatch, tmp_path):
    asked = []

    def load(target, draft, **options):
        asked.append((target, draft, options))
        main = fake_pair(hash_lm(24, 1), sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()]))
        return Contenders(main, fake_pair(hash_lm(24, 1)), {ALL: main}, remarks=["[left out] for a reason"])

    def make_cases(pair, planned, tokens):
        ids = torch.tensor([[5, 6, 7, 5, 6, 7]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return [replace(each, inputs=[inputs] * each.prompts) for each in planned], []

    monkeypatch.setattr(runners, "load_contenders", load)
    monkeypatch.setattr(measure, "make_cases", make_cases)
    out = tmp_path / "bench.json"
    cases = ["--quick", "--cases", "article_beam_4,chat_greedy"]
    result = command(*cases, "--no-packed", "--assistant", "small", "--out", out)
    assert result.exit_code == 0, result.output
    where = {"dtype": "float32", "device": "auto", "engine": "auto", "packed": False, "assistant": "small"}
    assert asked == [(None, "auto", where)]
    assert "[left out] for a reason" in result.output and "8 new tokens, medians" in result.output
    document = json.loads(out.read_text())
    assert document["metrics"]["all_equal"] is True
    found = {(row["case"], row["source"]): row for row in document["metrics"]["rows"]}
    assert len(found) == 5 + 4
    assert found["article_beam_4", ALL]["transformers_kv_slots"] == 4 * (6 + 7)
    assert document["repeats"] == 1 and document["seconds"] > 0
    parameters = {"quick": True, "chats": 1, "articles": 1, "codes": 1, "batches": 1, "warmups": 1}
    assert document["parameters"].items() >= parameters.items()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--repeats", "0"], "--repeats"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
        (["--cases", "chat_beam_3"], "'chat_beam_3' is no case"),
        (["--chats", "0", "--articles", "0", "--codes", "0", "--batches", "0"], "have no prompt"),
        (["--draft", "no-such-folder/x"], "that is no draft"),
    ],
)
def test_bad_input_is_refused(arguments, reason, monkeypatch):
    def load(*given, **options):
        raise ValueError("that is no draft")

    monkeypatch.setattr(runners, "load_contenders", load)
    result = command(*arguments)
    assert result.exit_code == 2 and reason in result.output
