"""What counts as a word in every script, worked out by hand; for ASCII it is what rouge-score counts."""

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize
from scripts import TEXTS

from specbeam.evaluation import words
from specbeam.evaluation.words import cut_words, kinds, tokens, word_ends


@pytest.mark.parametrize(
    "text, found",
    [
        ("Don't stop_me now: 3.5% of 2,050!", "don t stop me now 3 5 of 2 050"),
        ("“Café” — naïve", "café naïve"),
        ("STRASSE Straße", "strasse strasse"),
        ("ΟΔΟΣ οδος", "οδοσ οδοσ"),
        ("Привет, мир!", "привет мир"),
        ("мʼята, Hawaiʼi", "мʼята hawaiʼi"),
        ("مَرْحَبًا بالعالم", "مَرْحَبًا بالعالم"),
        ("می‌خواهم بروم", "می‌خواهم بروم"),
        ("हिन्दी में पाठ।", "हिन्दी में पाठ"),
        ("안녕하세요, 세계", "안녕하세요 세계"),
        ("今日は、データ", "今 日 は デ ー タ"),
        ("你好 世界々", "你 好 世 界 々"),
        ("AI技術2050年", "ai 技 術 2050 年"),
        ("สวัสดี ๒๕๖๗", "ส วั ส ดี ๒๕๖๗"),
        ("ខ្មែរ", "ខ្ មែ រ"),
        ("བོད་ཡིག", "བོད ཡིག"),
        ("soft\u00adhyphen 葛\U000e0100", "softhyphen 葛"),
        ("👍 ... — _ \u200d", ""),
    ],
)
def test_words_are_runs_of_letters_and_letters_of_scripts_without_spaces(text, found):
    assert " ".join(tokens(text)) == unicodedata.normalize("NFC", found)


@given(st.text(st.sampled_from(string.printable), max_size=60))
def test_the_words_of_ascii_are_rouge_scores(text):
    assert tokens(text) == tokenize(text, None)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_spelling_in_decomposed_letters_has_the_same_words(text):
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    assert tokens(forms[0]) == tokens(forms[1]) != []
    assert len(word_ends(forms[0])) == len(word_ends(forms[1]))
    assert kinds(forms[:1]) == kinds(forms[1:])


@given(st.text(max_size=40))
def test_whatever_the_text_its_spelling_does_not_matter(text):
    composed, decomposed = (tokens(unicodedata.normalize(form, text)) for form in ("NFC", "NFD"))
    assert tokens(text) == composed == decomposed


def test_words_are_told_apart_by_script():
    assert kinds(["Wörter, 12 слова", "漢字かな ไทย"]) == {"latin": 1, "spaced": 1, "han": 2, "unspaced": 5}


@pytest.mark.parametrize(
    "text, max_words, cut",
    [
        ("one, two  three", 2, "one, two"),
        (" one\ntwo — three", 3, " one\ntwo —"),
        ("今日は天気がいいです。", 3, "今日は"),
        ("彼は「猫」だ。", 3, "彼は「猫」"),
        ("你好，世界。", 2, "你好，"),
        ("AI技術は2050年", 4, "AI技術は"),
        ("สวัสดีครับ", 2, "สวั"),
        ("བོད་ཡིག་གི", 2, "བོད་ཡིག་"),
        ("か\u3099き\u3099", 1, "か\u3099"),
        ("안녕하세요 세계 여러분", 2, "안녕하세요 세계"),
        ("今日", 2, "今日"),
        ("今日", None, "今日"),
    ],
)
def test_texts_of_every_script_are_cut_after_so_many_words(text, max_words, cut):
    assert cut_words(text, max_words) == cut


@given(st.text(max_size=40), st.integers(1, 8))
def test_a_cut_text_is_a_beginning_with_no_more_words(text, max_words):
    cut = cut_words(text, max_words)
    assert text.startswith(cut) and len(word_ends(cut)) == min(max_words, len(word_ends(text)))
    assert cut_words(cut, max_words) == cut


@given(st.text(st.sampled_from(string.printable), max_size=60))
def test_in_ascii_what_stands_between_spaces_is_a_word(text):
    assert len(word_ends(text)) == len(text.split())


def test_all_that_is_no_word_between_spaces_is_where_it_is_looked_for():
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x110000))))
    special = words._pattern(f"{words._LETTER}|[{words._BREAKS}]").findall(every)
    assert len(special) > 90_000
    assert len(words._pattern(words._WHERE).findall("".join(special))) == len(special)
