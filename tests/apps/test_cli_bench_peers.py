"""`specbeam bench --peers`, with contenders that only pretend: what it passes on, prints and leaves."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import fake_pair, hash_lm
from typer.testing import CliRunner

from specbeam.apps.cli.main import app
from specbeam.evaluation.bench import runners
from specbeam.evaluation.bench.peers import measure
from specbeam.evaluation.bench.peers.contenders import TRANSFORMERS, Contender
from specbeam.evaluation.bench.peers.report import record, rows
from specbeam.evaluation.bench.peers.turns import take_turns


def command(*arguments):
    return CliRunner().invoke(app, ["bench", "--peers", *map(str, arguments)])


def test_the_command_prints_the_table_and_leaves_a_record(monkeypatch, tmp_path):
    asked: list[Any] = []
    main = fake_pair(hash_lm(24, 1))

    def load(*given, **options):
        asked.append((given, options))
        return SimpleNamespace(main=main)

    def benchmark(who, planned, parameters, *, article_tokens, say, done):
        asked.append(([case.label for case in planned], article_tokens))
        cases = [replace(case, inputs=[{"input_ids": torch.tensor([[5, 6]])}]) for case in planned]
        same = Contender(TRANSFORMERS, lambda inputs, beams, tokens: (list(range(tokens)), 1.0))
        other = Contender("x", lambda inputs, beams, tokens: ([0] * tokens, 0.5))
        players = [same, other, Contender("gone", None, "it was [not] built")]
        turns = take_turns(cases, players, parameters["repeats"], parameters["max_new_tokens"], done)
        return record(rows(cases, players, turns), parameters, players, main, cpu={"name": "a"})

    monkeypatch.setattr(runners, "load_contenders", load)
    monkeypatch.setattr(measure, "benchmark_peers", benchmark)
    out = tmp_path / "peers.json"
    result = command("--quick", "--no-packed", "--out", out)
    assert result.exit_code == 0, result.output
    options = {"dtype": "float32", "device": "cpu", "engine": "auto", "packed": False}
    assert asked == [((None, "auto"), options), (["chat_greedy", "article_beam_4"], 100)]
    assert "× 2.00 ≠" in result.output and "8 forced tokens" in result.output
    assert "x differs in chat greedy, prompt 1, from token 2 on" in result.output
    assert "gone has no full result in any case: it was [not] built" in result.output
    document = json.loads(out.read_text())
    assert document["notebook"] == "bench_peers" and document["metrics"]["who_differs"] == ["x"]
    assert document["parameters"].items() >= {"quick": True, "articles": 1, "article_tokens": 100}.items()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--target", "a", "--full"], "leave out --target, --full"),
        (["--dtype", "bfloat16"], "--dtype"),
        (["--device", "cuda"], "--device"),
        (["--batches", "1"], "--batches"),
        (["--cases", "batch_8_beam_4"], "decodes a batch"),
        (["--cases", "chat_beam_3"], "no case of the benchmark"),
    ],
)
def test_options_without_a_meaning_are_refused(arguments, reason):
    result = command(*arguments)
    assert result.exit_code == 2 and reason in result.output
