"""Rows of a comparison against figures worked out by hand."""

import json
import math
from typing import Any

import pytest

from specbeam.evaluation.comparison import BEAM, GREEDY, HYBRID
from specbeam.evaluation.comparison_summary import label, summarise
from specbeam.experiments.records import plain


def run(
    prompt: int, method: str, tokens: list[int], seconds: list[float], nats: float, text: str = "a b", **given: Any
):
    stats = {"steps": 4, "target_passes": 2, "drafted": 6, "accepted": {"1": 1, "3": 1}, "new_tokens": len(tokens)}
    stats |= {"prefill_s": 0.1, "decode_s": 0.4, "peak_kv_tokens": 9, "relaxed_steps": 0}
    made = {
        "prompt": prompt,
        "method": method,
        "sequences": [tokens],
        "texts": [text],
        "nats": nats,
        "seconds": seconds,
    }
    return {**made, "stats": stats, "equal": True, "all_equal": True, "repeatable": True, **given}


@pytest.fixture
def found() -> dict[str, Any]:
    methods = [
        {"name": GREEDY, "plain": GREEDY, "exact": True, "num_beams": 1},
        {"name": BEAM, "plain": BEAM, "exact": True, "num_beams": 2},
        {"name": f"{HYBRID}, margin 1", "plain": BEAM, "exact": False, "num_beams": 2},
    ]
    prompts = [
        {"set": "open", "source": "open/0", "prompt": "x", "reference": None},
        {"set": "news", "source": "news/0", "prompt": "y", "reference": "a b c d"},
        {"set": "news", "source": "news/1", "prompt": "z", "reference": "e f"},
    ]
    runs = []
    for prompt in range(3):
        two = {"sequences": [[1, 2], [1, 3]], "texts": ["a b", "a c"]}
        runs += [
            run(prompt, GREEDY, [1, 2], [1.0, 3.0, 2.0], -2.0, "a b"),
            run(prompt, BEAM, [1, 2], [4.0], -1.0, **two),
            run(prompt, f"{HYBRID}, margin 1", [1, 2, 3, 4], [1.0 + prompt], -4.0, "", equal=False, all_equal=False),
        ]
    runs[-1]["stats"]["relaxed_steps"] = 4
    return {"methods": methods, "prompts": prompts, "runs": runs}


def by_name(rows: list[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in rows if row["set"] == name}


def test_speed_is_a_ratio_of_sums_of_the_medians_of_repeats(found):
    news = by_name(summarise(found, resamples=200), "news")
    assert news[GREEDY]["speedup"][BEAM]["value"] == pytest.approx(8 / 4)
    wide = news[f"{HYBRID}, margin 1"]
    assert wide["speedup"][BEAM]["value"] == pytest.approx(8 / (2 + 3)) and wide["worst_prompt"] == pytest.approx(4 / 3)
    assert 4 / 3 <= wide["speedup"][BEAM]["low"] <= wide["speedup"][BEAM]["high"] <= 4 / 2
    assert set(wide["speedup"]) == {BEAM, GREEDY}
    assert wide["tokens"] == 8 and wide["tokens_per_second"]["value"] == pytest.approx(8 / 5)
    assert wide["ms_per_token"] == pytest.approx(625) and wide["passes_per_token"] == pytest.approx(4 / 8)
    assert wide["steps_per_pass"] == 2 and wide["relaxed_steps"] == pytest.approx(4 / 8)
    assert wide["acceptance_rate"] == pytest.approx(2 * 4 / 12) and wide["accepted"] == {1: 2, 3: 2}


def test_likelihoods_are_compared_with_exact_beam_search(found):
    news = by_name(summarise(found, length_penalty=1.0, resamples=200), "news")
    assert news[GREEDY]["perplexity"]["value"] == pytest.approx(math.exp(4 / 4))
    assert news[GREEDY]["gap"]["value"] == pytest.approx(-0.5 + 1.0) and news[BEAM]["gap"]["value"] == 0
    wide = news[f"{HYBRID}, margin 1"]
    assert wide["gap"]["value"] == pytest.approx(-0.5 + 4 / 4) and wide["gap_nats"]["value"] == pytest.approx(3.0)
    flat = by_name(summarise(found, length_penalty=0.0, resamples=200), "news")
    assert flat[f"{HYBRID}, margin 1"]["gap"]["value"] == pytest.approx(3.0)


def test_references_are_used_where_every_prompt_of_the_set_has_one(found):
    rows = summarise(found, resamples=200)
    news, other = by_name(rows, "news"), by_name(rows, "open")
    assert news[GREEDY]["rouge1"]["value"] == pytest.approx((2 * 0.5 / 1.5 + 0) / 2)
    assert news[f"{HYBRID}, margin 1"]["rougeL"]["value"] == 0.0 and news[f"{HYBRID}, margin 1"]["bleu"]["value"] == 0.0
    assert news[f"{HYBRID}, margin 1"]["rougeL_gain"]["value"] == pytest.approx(-1 / 3)
    assert news[GREEDY]["rougeL_gain"]["value"] == 0
    for row in other.values():
        assert [row[name] for name in ("rouge1", "rouge2", "rougeL", "bleu", "rougeL_gain")] == [None] * 5
    for nothing in ("  ", "..."):
        found["prompts"][2]["reference"] = nothing
        assert by_name(summarise(found, resamples=200), "news")[GREEDY]["rougeL"] is None


def test_a_row_says_what_rouge_and_bleu_count_in_its_set(found):
    rows = summarise(found, resamples=50)
    news, other = by_name(rows, "news")[BEAM], by_name(rows, "open")[BEAM]
    assert news["rouge_tokenizer"] == "words (case folded, NFC)"
    assert news["bleu_signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert (other["rouge_tokenizer"], other["bleu_signature"]) == (None, None)
    assert news["self_bleu_tokenizers"] == ["13a"] and by_name(rows, "news")[GREEDY]["self_bleu_tokenizers"] is None


def test_texts_without_spaces_are_compared_by_their_letters(found):
    for prompt, reference in ((1, "今日は雨"), (2, "明日は雪")):
        found["prompts"][prompt]["reference"] = reference
    for one in found["runs"]:
        one["texts"] = ["今日は" for _ in one["texts"]]
    beam = by_name(summarise(found, resamples=50), "news")[BEAM]
    # 3 of 3 and 4 letters are shared, then 2
    assert beam["rouge1"]["value"] == pytest.approx((6 / 7 + 4 / 7) / 2)
    assert beam["rouge_tokenizer"] == "letters (case folded, NFC)" and "|tok:char|" in beam["bleu_signature"]
    assert beam["self_bleu_tokenizers"] == ["char"] and beam["diversity"]["self_bleu"] == pytest.approx(100)


def test_empty_and_equal_outputs_are_counted_and_beams_compared(found):
    news = by_name(summarise(found, resamples=200), "news")
    wide = news[f"{HYBRID}, margin 1"]
    assert (wide["empty"], wide["equal"], wide["all_equal"], wide["prompts"]) == (2, 0, 0, 2)
    assert (news[BEAM]["empty"], news[BEAM]["equal"]) == (0, 2)
    assert news[BEAM]["diversity"]["edit_distance"] == 0.5 and news[GREEDY]["diversity"] is None


def test_outputs_without_tokens_have_no_likelihood_and_break_nothing(found):
    for one in found["runs"]:
        if one["method"] == GREEDY:
            one |= {"sequences": [[]], "texts": [""], "nats": 0.0}
    row = by_name(summarise(found, resamples=200), "news")[GREEDY]
    assert row["perplexity"] is None and row["ms_per_token"] is None and row["empty"] == 2


def test_a_judges_bits_are_over_all_bytes(found):
    assert summarise(found, resamples=200)[0]["bits_per_byte"] is None
    for one in found["runs"]:
        one["judge"] = [-8 * math.log(2), 4] if one["prompt"] == 1 else [0.0, 0]
    news = by_name(summarise(found, resamples=200), "news")
    assert news[BEAM]["bits_per_byte"]["value"] == pytest.approx(2.0) and news[BEAM]["bits_per_byte"]["n"] == 1


def test_rows_can_be_recorded_and_without_beam_search_there_is_no_gap(found):
    rows = summarise(found, resamples=50)
    assert json.loads(json.dumps(plain(rows, "rows")))
    alone = {**found, "methods": found["methods"][:1]}
    rows = summarise(alone, resamples=50)
    assert [row["method"] for row in rows] == [GREEDY, GREEDY] and rows[0]["gap"] is None


@pytest.mark.parametrize("exact, text", [(True, "exact"), (False, "inexact"), (None, "random")])
def test_every_method_has_a_label(exact, text):
    assert label({"exact": exact}) == text
