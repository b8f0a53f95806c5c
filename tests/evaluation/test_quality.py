"""BLEU, ROUGE and diversity: the libraries' own worked examples, values worked out by hand, and properties."""

import math
import socket
import string
import unicodedata
import urllib.request

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scripts import TEXTS

from specbeam.evaluation.data import Example
from specbeam.evaluation.intervals import bootstrap, mean
from specbeam.evaluation.quality import (
    ROUGE,
    bleu,
    bleu_tokenizer,
    distinct_n,
    diversity,
    mean_edit_distance,
    mean_over_prompts,
    references,
    rouge,
    rouge_tokenizer,
    self_bleu,
)
from specbeam.evaluation.words import tokens as words_of

# the example of sacrebleu's README, a row an output
OUTPUTS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
ROWS = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]
words = st.lists(st.sampled_from(["rain", "snow", "wind", "fog", "sun"]), max_size=12)
tokens = st.lists(st.integers(0, 3), max_size=8)
texts = st.lists(st.sampled_from(["rain", "snow", "wind", "fog"]), min_size=4, max_size=9).map(" ".join)
printable = st.text(st.sampled_from(string.printable), max_size=60)
worded = st.text(max_size=20).filter(words_of)  # of any script


def test_bleu_is_that_of_sacrebleus_readme():
    found = bleu(OUTPUTS, ROWS)
    assert found.score == pytest.approx(48.530827, abs=1e-6)
    assert found.signature.startswith("nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.")
    one_less = bleu(OUTPUTS, [ROWS[0][1:], *ROWS[1:]])
    assert one_less.score == pytest.approx(29.44, abs=0.005)
    assert one_less.signature.startswith("nrefs:var|")


@pytest.mark.parametrize(
    "options, score",
    [({"tokenize": "none"}, 49.1919566), ({"tokenize": "intl"}, 43.91623493), ({"smooth_method": "none"}, 48.530827)],
)
def test_bleu_takes_sacrebleus_options_with_the_values_of_its_own_tests(options, score):
    found = bleu(OUTPUTS, ROWS, **options)
    assert found.score == pytest.approx(score, abs=1e-6)
    assert found.interval.value == pytest.approx(score, abs=1e-6)


def test_bleu_of_short_texts_worked_out_by_hand():
    # 4 of 5 words, 2 of 4 pairs and 1 of 3 triples match, no four: exp smoothing makes that half a match of 2
    found = bleu(["a b c d e"], ["a b c x e"], tokenize="none")
    assert found.score == pytest.approx(100 * (4 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** 0.25)
    # all matches, but half as long: only the brevity penalty exp(1 - 8/4) is left
    assert bleu(["a b c d"], ["a b c d e f g h"]).score == pytest.approx(100 * math.exp(-1))


@pytest.mark.parametrize("options", [{}, {"smooth_method": "add-k"}, {"smooth_method": "floor"}, {"lowercase": True}])
def test_the_interval_of_bleu_is_that_of_corpora_made_of_resampled_prompts(options):
    outputs, rows = [f"{one} {i} times" for i, one in enumerate(OUTPUTS * 3)], ROWS * 3
    found = bleu(outputs, rows, resamples=40, seed=5, **options)

    def corpus(indices):
        chosen = [int(i) for i in indices]
        return bleu([outputs[i] for i in chosen], [rows[i] for i in chosen], resamples=1, **options).score

    assert found.interval.value == pytest.approx(found.score)
    slow = bootstrap([float(i) for i in range(9)], statistic=corpus, resamples=40, seed=5)
    assert (found.interval.low, found.interval.high) == pytest.approx((slow.low, slow.high))


def test_empty_outputs_count_as_nothing_right():
    assert bleu(["", "", ""], ROWS).score == 0
    assert rouge([""], ["testing one two"]) == {"rouge1": [0.0], "rouge2": [0.0], "rougeL": [0.0]}
    full = bleu(["one two three four five"], ["one two three four five"]).score
    half = bleu(["one two three four five", ""], ["one two three four five"] * 2).score
    assert (full, half) == (pytest.approx(100), pytest.approx(100 * math.exp(-1)))


@pytest.mark.parametrize(
    "kind, reference, output, value",
    [
        ("rouge1", "testing one two", "testing", 1 / 2),
        ("rouge2", "testing one two", "testing one", 2 / 3),
        ("rougeL", "testing one two", "testing two", 4 / 5),
        ("rouge1", ["first text", "first something"], "text first", 1),
        ("rouge2", ["first text", "first something"], "text first", 0),
        ("rougeL", ["first text", "first something"], "text first", 1 / 2),
    ],
)
def test_rouge_gives_the_values_of_rouge_scores_own_tests(kind, reference, output, value):
    assert rouge([output], [reference])[kind] == [pytest.approx(value)]


def test_rouge_of_rouge_scores_readme_counted_by_hand():
    reference, output = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
    found = rouge([output], [reference], stemmer=True)
    # of 9 and 8 words 6 are shared (the quick brown dog jumps the), of 8 and 7 pairs 2, in order 5
    assert found["rouge1"] == [pytest.approx(2 * 6 / 17)]
    assert found["rouge2"] == [pytest.approx(2 * 2 / 15)]
    assert found["rougeL"] == [pytest.approx(2 * 5 / 17)]


def test_stems_are_compared_without_any_download(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("no network is needed to compare stems")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("NLTK_DATA", "/nowhere")
    assert rouge(["he jumped fences"], ["he jumps fence"], stemmer=False)["rouge1"] == [pytest.approx(1 / 3)]
    assert rouge(["he jumped fences"], ["he jumps fence"], stemmer=True)["rouge1"] == [1.0]


@given(st.lists(texts, min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_texts_equal_to_their_references_score_full_marks(outputs):
    found = rouge(outputs, outputs)
    assert found["rouge1"] == found["rouge2"] == found["rougeL"] == [1.0] * len(outputs)
    score = bleu(outputs, outputs, resamples=5)
    assert (score.score, score.interval.low) == (pytest.approx(100), pytest.approx(100))


@given(st.lists(st.tuples(words, words.filter(bool)), min_size=1, max_size=4))
@settings(deadline=None, max_examples=30)
def test_scores_stay_in_their_ranges(pairs):
    outputs, given_references = [" ".join(a) for a, _ in pairs], [" ".join(b) for _, b in pairs]
    assert all(0 <= value <= 1 for values in rouge(outputs, given_references).values() for value in values)
    found = bleu(outputs, given_references, resamples=20)
    assert 0 <= found.score <= 100 + 1e-9
    assert found.interval.value == pytest.approx(found.score)


@given(st.lists(st.tuples(printable, printable.filter(words_of)), min_size=1, max_size=3), st.booleans())
@settings(deadline=None, max_examples=50)
def test_rouge_of_ascii_is_rouge_scores(pairs, stemmer):
    theirs = RougeScorer(list(ROUGE), use_stemmer=stemmer)
    found = rouge([output for output, _ in pairs], [reference for _, reference in pairs], stemmer=stemmer)
    for place, (output, reference) in enumerate(pairs):
        expected = {kind: score.fmeasure for kind, score in theirs.score(reference, output).items()}
        if len(words_of(output)) == len(words_of(reference)) == 1:
            del expected["rouge2"]  # 0 there for the same word too
        assert {kind: found[kind][place] for kind in expected} == pytest.approx(expected)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_of_any_script_is_like_itself_and_unlike_another(text):
    assert rouge([text], [text]) == {kind: [1.0] for kind in ROUGE}
    assert bleu([text], [text], resamples=5).score == pytest.approx(100)
    assert self_bleu([text, text]) == pytest.approx(100)
    assert rouge(["zzz"], [text]) == {kind: [0.0] for kind in ROUGE}
    assert bleu(["zzz"], [text], resamples=5).score < 10


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_decomposed_spelling_is_no_other_text(text):
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    begun = composed[: len(composed) // 2]
    assert rouge([decomposed], [composed]) == {kind: [1.0] for kind in ROUGE}
    assert rouge([begun], [composed]) == rouge([unicodedata.normalize("NFD", begun)], [decomposed])
    assert bleu([decomposed], [composed], resamples=5).score == pytest.approx(100)
    assert bleu([begun], [composed], resamples=5) == bleu([begun], [decomposed], resamples=5)
    assert self_bleu([composed, decomposed]) == pytest.approx(100)
    assert distinct_n([composed, decomposed], 1) == distinct_n([composed, composed], 1)
    assert mean_edit_distance([composed, decomposed]) == 0


@given(worded, worded)
@settings(deadline=None, max_examples=100)
def test_rouge_is_the_same_both_ways_and_1_of_a_text_with_itself(one, two):
    there, back = rouge([one], [two]), rouge([two], [one])
    assert all(there[kind] == pytest.approx(back[kind]) for kind in ROUGE)
    assert rouge([one], [one]) == {kind: [1.0] for kind in ROUGE}


@given(st.lists(worded, min_size=1, max_size=3))
@settings(deadline=None, max_examples=50)
def test_bleu_of_texts_with_themselves_is_100_however_short_they_are(outputs):
    found = bleu(outputs, outputs, resamples=10)
    assert (found.score, found.interval.low, found.interval.high) == pytest.approx((100, 100, 100))


def test_rouge_in_other_scripts_worked_out_by_hand():
    # of 3 and 4 letters 今 日 は are shared, of 2 and 3 pairs 2
    found = rouge(["今日は。"], ["今日は雨"])
    assert [found[kind] for kind in ROUGE] == [[pytest.approx(6 / 7)], [pytest.approx(4 / 5)], [pytest.approx(6 / 7)]]
    assert rouge(["привет мир"], ["Привет, дом"])["rouge1"] == [pytest.approx(1 / 2)]
    # ai 技 術 2050 年 against ai 2050: two of five and of two
    assert rouge(["AI技術2050年"], ["AI 2050"])["rouge1"] == [pytest.approx(4 / 7)]
    assert rouge(["stop"], ["stop"])["rouge2"] == [1.0] and rouge(["stop"], ["go"])["rouge2"] == [0.0]
    assert rouge(["stop now"], ["stop"])["rouge2"] == [0.0]


def test_english_stems_leave_other_languages_alone():
    assert rouge(["größe"], ["größes"], stemmer=True)["rouge1"] == [0.0]
    assert rouge(["jumping über"], ["jumps über"], stemmer=True)["rouge1"] == [1.0]


@pytest.mark.parametrize(
    "texts, name",
    [
        (["The cat sat.", "Größe, 5 €"], "13a"),
        (["Привет, мой мир", "said he"], "intl"),
        (["안녕하세요, 세계"], "intl"),
        (["مرحبا بالعالم"], "intl"),
        (["你好，世界 hello"], "zh"),
        (["今日は天気がいい"], "char"),
        (["สวัสดีครับ"], "char"),
        (["one word of Chinese, 猫, among many in English that are no less than twenty"], "13a"),
        (["half of it 是中文"], "zh"),
        (["12 34", "..."], "13a"),
    ],
)
def test_bleus_tokenizer_goes_by_the_script_of_the_references(texts, name):
    assert bleu_tokenizer(texts) == name
    assert f"|tok:{name}|" in bleu(["x"] * len(texts), texts, resamples=2).signature


def test_bleus_tokenizer_can_be_given():
    assert "|tok:13a|" in bleu(["猫"], ["猫"], tokenize="13a", resamples=2).signature
    assert "|tok:zh|" in bleu(["cat"], ["cat"], trg_lang="zh", resamples=2).signature


def test_bleu_of_references_below_four_tokens_leaves_longer_n_grams_out():
    found = bleu(["Привет, мир", "нет"], ["Привет, мир", "да"], resamples=20)
    # 3 of 4 words, 2 of 2 pairs and 1 of 1 triple match
    assert found.score == pytest.approx(100 * (3 / 4) ** (1 / 3)) and "|eff:yes|" in found.signature
    assert "|eff:no|" in bleu(["a"], ["a"], effective_order=False, resamples=2).signature
    assert "|eff:no|" in bleu(["a", "b"], ["a", "b c d e"], resamples=2).signature


@pytest.mark.parametrize(
    "texts, counted",
    [
        (["one", "два"], "words (case folded, NFC)"),
        (["今日は 12"], "letters (case folded, NFC)"),
        (["AI技術"], "words and, in scripts without spaces, letters (case folded, NFC)"),
    ],
)
def test_what_rouge_counts_has_a_name(texts, counted):
    assert rouge_tokenizer(texts) == counted


@pytest.mark.parametrize("reference", ["👍", "...", "\u200b", ["!", "—"]])
def test_rouge_refuses_a_reference_without_a_word(reference):
    with pytest.raises(ValueError, match="example 1 of 2, counted from 0, has no reference with a letter or digit"):
        rouge(["a", "b"], ["a", reference])
    assert rouge(["b"], [["...", "b"]])["rouge1"] == [1.0]


def test_bleu_counts_signs_and_refuses_what_cannot_be_seen():
    assert bleu(["👍"], ["👍"], resamples=2).score == pytest.approx(100)
    with pytest.raises(ValueError, match="example 0 of 1, counted from 0, has no reference"):
        bleu(["a"], ["\u200b\ufeff"])
    assert self_bleu(["", " "]) is None


def test_a_missing_reference_is_named_with_what_to_do():
    examples = [Example("p", "r", "xsum/0"), Example("p", None, "chat/1")]
    assert references(examples[:1]) == ["r"]
    with pytest.raises(ValueError, match=r"example chat/1 has no reference; .*take a set with summaries"):
        references(examples)
    for missing in (None, " ", [], ["", None]):
        for score in (bleu, rouge):
            with pytest.raises(ValueError, match="example 1 of 2, counted from 0, has no reference"):
                score(["a", "b"], ["a", missing])  # type: ignore[arg-type]


@pytest.mark.parametrize("score", [bleu, rouge])
def test_outputs_without_partners_are_refused(score):
    with pytest.raises(ValueError, match="2 outputs and 1 references"):
        score(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="there are no outputs"):
        score([], [])


def test_distinct_n_counts_by_hand():
    beams = [[1, 2, 3], [1, 2, 4]]
    assert distinct_n(beams, 1) == 4 / 6
    assert distinct_n(beams, 2) == 3 / 4  # 12, 23, 24
    assert distinct_n([[1], []], 2) is None
    assert distinct_n([["a", "b", "c"], ["d", "e"]], 2) == 1
    assert distinct_n(["To be, or not to be", "今日は今日"], 1) == (4 + 3) / (6 + 5)  # words of texts
    with pytest.raises(ValueError, match="n=0"):
        distinct_n(beams, 0)


@given(st.lists(tokens, max_size=5), st.integers(1, 3))
def test_distinct_n_lies_above_0_and_at_most_at_1(beams, n):
    found = distinct_n(beams, n)
    assert found is None if all(len(beam) < n for beam in beams) else 0 < found <= 1  # type: ignore[operator]
    again = distinct_n([*beams, *beams], n)
    assert again == (None if found is None else pytest.approx(found / 2))


def test_self_bleu_is_each_text_against_the_others():
    one, two = "the cat sat on the mat", "a dog lay under some table"
    assert self_bleu([one, one]) == pytest.approx(100)
    assert self_bleu([one, two]) == 0
    # the first two have each other as a reference, the third shares nothing with them
    assert self_bleu([one, one, two]) == pytest.approx(200 / 3)
    assert self_bleu([one]) is None


def test_edit_distances_of_known_pairs():
    assert mean_edit_distance(["kitten", "sitting"]) == 3 / 7
    assert mean_edit_distance(["", "abc"]) == 1
    assert mean_edit_distance([[1, 2, 3], [1, 2, 3]]) == 0
    # of the three pairs one differs in 1 of 2, and two in 2 of 2
    assert mean_edit_distance([[1, 2], [1, 3], [4, 5]]) == pytest.approx((1 / 2 + 1 + 1) / 3)
    assert mean_edit_distance([[1], [1, 2, 3, 4]]) == mean_edit_distance([[1, 2, 3, 4], [1]]) == 3 / 4
    assert mean_edit_distance([[], []]) == 0
    assert mean_edit_distance([[1]]) is None


def test_diversity_is_gathered_for_a_prompt_and_averaged_over_prompts():
    alike = diversity([[1, 2, 3, 4]] * 2, ["one two three four"] * 2)
    assert alike == {"distinct_1": 0.5, "distinct_2": 0.5, "self_bleu": pytest.approx(100), "edit_distance": 0.0}
    alone = diversity([[1, 2]], ["one two"])
    assert alone == {"distinct_1": 1.0, "distinct_2": 1.0, "self_bleu": None, "edit_distance": None}
    average = mean_over_prompts([alike, alone])
    assert average == {"distinct_1": 0.75, "distinct_2": 0.75, "self_bleu": pytest.approx(100), "edit_distance": 0.0}
    assert mean_over_prompts([alone])["self_bleu"] is None
    with pytest.raises(ValueError, match="2 sequences and 1 texts"):
        diversity([[1], [2]], ["one"])


def test_rouge_over_prompts_has_a_mean_and_an_interval():
    scores = rouge(OUTPUTS, ROWS)
    interval = bootstrap(scores["rouge1"])
    assert interval.value == pytest.approx(mean(scores["rouge1"]))
    assert 0 < interval.low < interval.value < interval.high <= 1
