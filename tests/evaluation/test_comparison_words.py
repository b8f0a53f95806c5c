"""Sentences follow from the numbers: every branch, on rows written by hand."""

from typing import Any

import pytest
from comparison_rows import MARGIN, interval, row

from specbeam.evaluation import comparison_words as words
from specbeam.evaluation.comparison import BEAM, GREEDY, HYBRID, SAMPLING, SPECULATIVE


@pytest.mark.parametrize(
    "given, expected",
    [
        (interval(1.2, 1.1, 1.3), "faster"),
        (interval(0.8, 0.7, 0.9), "slower"),
        (interval(1.2, 0.9, 1.3), "no difference that these prompts show"),
        (interval(1.0, 1.0, 1.0), "no difference that these prompts show"),
        (interval(1.2, n=1), "not decided by 1 prompt"),
        (interval(1.2, 1.1, 1.3, n=4), "not decided by 4 prompts"),
        (None, "not measured"),
    ],
)
def test_a_verdict_goes_by_the_interval_alone(given, expected):
    assert words.verdict(given, "faster", "slower") == expected


def test_figures_are_shown_with_their_interval_in_one_piece():
    assert words.shown(interval(1.234, 1.1, 1.3)) == "1.23 [1.10,\u00a01.30]"
    assert words.shown(interval(1.234, n=1)) == "1.23"
    assert (words.shown(None), words.shown(0.5, ".1f")) == ("–", "0.5")


@pytest.mark.parametrize(
    "given, expected",
    [
        (interval(1.2, 1.1, 1.3), "faster than beam search (× 1.20 [1.10,\u00a01.30])"),
        (interval(0.8, 0.7, 0.9), "slower than beam search (× 0.80 [0.70,\u00a00.90])"),
        (interval(1.2, n=1), "at × 1.20 the speed of beam search, which is not decided by 1 prompt"),
        (None, "not measured"),
    ],
)
def test_speed_in_words(given, expected):
    assert words.speed_words(row(HYBRID, 1, 0, speedup={BEAM: given}), BEAM) == expected


def test_speed_that_was_not_shown_says_so():
    text = words.speed_words(row(SPECULATIVE, 1, 0, speedup={GREEDY: interval(1.1, 0.9, 1.2)}), GREEDY)
    assert text.startswith("neither faster nor slower than greedy as far as these prompts show")


@pytest.mark.parametrize(
    "gain, expected",
    [
        (interval(0.02, 0.01, 0.03), "has a ROUGE-L above that of greedy (+0.020"),
        (interval(-0.02, -0.03, -0.01), "has a ROUGE-L below that of greedy (-0.020"),
        (interval(0.02, -0.01, 0.03), "has a ROUGE-L neither above nor below that of greedy"),
        (
            interval(0.02, n=1),
            "has a ROUGE-L that differs from that of greedy by +0.020, which is not decided by 1 prompt",
        ),
        (None, "cannot be compared by ROUGE"),
    ],
)
def test_quality_in_words(gain, expected):
    assert words.quality_words(row(BEAM, 1, 0, rougeL_gain=gain)).startswith(expected)


@pytest.mark.parametrize("several, word", [(1.5, "fewer than"), (2.5, "more than"), (2.0, "as many as")])
def test_steps_of_several_beams_against_one_sequence(several, word):
    text = words.steps_words(row(HYBRID, 1, 0, steps_per_pass=several), row(SPECULATIVE, 1, 0, steps_per_pass=2.0))
    assert text == f"4 beams got {several:.2f} steps out of a pass, {word} one sequence with 2.00"


def test_the_frontier_holds_what_nothing_beats_and_equal_points_together():
    rows = [row(BEAM, 1.0, 0.0), row(HYBRID, 1.2, 0.0), row(MARGIN, 1.5, 0.1), row(SAMPLING, 1.4, 0.2)]
    rows += [row(SPECULATIVE, 2.0, 0.3), row(GREEDY, 2.0, 0.3)]
    assert [one["method"] for one in words.frontier(rows)] == [SPECULATIVE, GREEDY, MARGIN, HYBRID]


def test_the_pareto_sentence_names_the_cheapest_and_the_fastest():
    rows = [row(BEAM, 1.0, 0.0), row(HYBRID, 1.2, 0.0), row(MARGIN, 1.5, 0.1), row(SPECULATIVE, 2.0, 0.3)]
    assert words.pareto_sentence(rows) == (
        "what is faster than the exact speculative beam (× 1.20 the speed of beam search) has a score that is "
        "0.100 lower at × 1.50 (speculative beam, margin 1, inexact), up to "
        "0.300 lower at × 2.00 (speculative, exact (greedy))"
    )
    assert words.pareto_sentence(rows[:3]).endswith("0.100 lower at × 1.50 (speculative beam, margin 1, inexact)")
    likelier = [*rows[:2], row(MARGIN, 1.5, -0.1)]
    assert "0.100 higher at × 1.50" in words.pareto_sentence(likelier)


def test_the_pareto_sentence_claims_nothing_that_is_not_shown():
    rows = [row(BEAM, 1.0, 0.0), row(HYBRID, 1.2, 0.0), row(MARGIN, 1.5, 0.1, faster=False)]
    expected = (
        "nothing that leaves beam search's result is shown to be faster than the exact speculative beam (× 1.20 the"
    )
    assert words.pareto_sentence(rows).startswith(expected)


def test_the_pareto_sentence_says_where_prompts_are_too_few():
    rows = [row(BEAM, 1.0, 0.0), row(HYBRID, 1.2, 0.0), row(MARGIN, 1.5, 0.1)]
    rows[1]["speedup"][BEAM]["n"] = 4
    assert words.pareto_sentence(rows) == (
        "4 prompts cannot show what is faster than the exact speculative beam (× 1.20 the speed of beam search)"
    )


def found(equal: list[bool], behind: list[bool]) -> dict[str, Any]:
    methods = [{"name": BEAM, "plain": BEAM, "exact": True}, {"name": HYBRID, "plain": BEAM, "exact": True}]
    methods.append({"name": MARGIN, "plain": BEAM, "exact": False})
    runs = []
    for number, (same, all_same) in enumerate(zip(equal, behind, strict=True)):
        two = {"prompt": number, "sequences": [[1], [2]]}
        runs.append({**two, "method": BEAM, "nats": -1.0, "equal": True, "all_equal": True})
        runs.append({**two, "method": HYBRID, "nats": -1.5 - number, "equal": same, "all_equal": all_same})
        runs.append({**two, "method": MARGIN, "nats": -1.5, "equal": False, "all_equal": False})
    return {"methods": methods, "prompts": [{"source": f"news/{n}"} for n in range(len(equal))], "runs": runs}


def test_equal_outputs_are_confirmed_and_others_named():
    both = "All 2 outputs of speculative beam are those of beam, every returned beam included."
    assert words.equality_words(found([True, True], [True, True]), HYBRID) == both
    text = words.equality_words(found([True, True], [True, False]), HYBRID)
    assert text == "All 2 outputs of speculative beam are those of beam; beams behind the best differ on news/1."
    text = words.equality_words(found([False, True], [False, True]), HYBRID)
    assert text.startswith("**1 of 2 outputs of speculative beam differ from those of beam**: news/0. ")
    assert text.endswith("Their log-probability is 5.0e-01 nats below.")
    text = words.equality_words(found([False, False], [False, False]), HYBRID)
    assert text.endswith("is 5.0e-01 to 1.5e+00 nats below.")


def test_inexact_methods_are_not_blamed_for_differing():
    assert words.differing(found([True, False], [True, False])) == {HYBRID: ["news/1"]}
    assert words.differing(found([True, True], [True, False])) == {}
    assert words.differing(found([True, True], [True, False]), best_only=False) == {HYBRID: ["news/1"]}


def test_the_conclusion_has_every_set_and_counts_empty_outputs():
    gains = {"chat": None, "news": interval(0.02, 0.01, 0.03)}
    rows = [
        each
        for name in ("chat", "news")
        for each in (
            row(GREEDY, 1.0, 0.2, name=name, empty=1, perplexity=interval(3.0)),
            row(BEAM, 1.0, 0.0, name=name, rougeL_gain=gains[name]),
            row(HYBRID, 1.3, 0.0, name=name),
            row(MARGIN, 1.5, 0.1, name=name),
            row(SAMPLING, 0.7, 0.1, name=name),
        )
    ]
    lines = words.conclusion(found([True], [True]), rows)
    assert lines[0].startswith("All 1 outputs of speculative beam")
    assert lines[-1] == "2 of 3 outputs were empty."
    assert any(line.startswith("On chat, speculative beam is faster than beam search (× 1.30") for line in lines)
    assert any(line.startswith("On chat, beam search cannot be compared by ROUGE") for line in lines)
    assert any(line.startswith("On news, beam search has a ROUGE-L above that of greedy") for line in lines)
    assert (
        sum("The score of greedy's text is lower; perplexity is 2.00 for beam search, 3.00" in line for line in lines)
        == 2
    )
    assert any(line.startswith("On news, beam sampling is slower than beam search") for line in lines)
    assert any("what is faster than the exact speculative beam" in line for line in lines)


def test_the_conclusion_says_what_the_figures_of_a_set_count():
    counted: dict[str, Any] = {"rouge_tokenizer": "letters (case folded, NFC)", "bleu_signature": "nrefs:1|tok:char"}
    rows = [row(GREEDY, 1, 0, name="chat", rouge_tokenizer=None), row(GREEDY, 1, 0, name="news", **counted)]
    rows += [row(HYBRID, 1, 0, name=name) for name in ("chat", "news")]
    lines = words.conclusion(found([True], [True]), rows)
    assert [line for line in lines if "ROUGE counts" in line] == [
        "On news, ROUGE counts letters (case folded, NFC); BLEU is `nrefs:1|tok:char`."
    ]


def test_the_main_set_is_the_first_with_references():
    rows = [row(BEAM, 1, 0, name="chat"), row(BEAM, 1, 0, name="news", rougeL=interval(0.2))]
    assert words.main_set(rows) == "news" and words.main_set(rows[:1]) == "chat"


def test_a_models_text_cannot_break_a_table():
    text = words.as_it_stands("a | b\n**c** <b> `d` $x$ & [e](f)")
    assert not set("|\n*<`$[") & set(text) and "⏎" in text
    assert words.as_it_stands("plain text, 2-1.") == "plain text, 2-1."
