"""What counts as a word, in every script: for ROUGE, for lengths of texts, and for the choice of BLEU's tokenizer.

A word is a run of letters, digits and their combining marks. Some scripts put no spaces between words (Chinese,
Japanese, Thai, …); a run of their letters is a sentence, so there each letter with its marks counts for itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache

import regex

LATIN, SPACED, HAN, UNSPACED = "latin", "spaced", "han", "unspaced"  # what `kinds` tells apart

# Their lines may break within a run of letters (UAX #14): there are no spaces to break at.
_ASIAN = "Bopomofo Han Hiragana Katakana Nushu Tangut Yi"
_SOUTH_EAST_ASIAN = "Ahom Balinese Javanese Khmer Lao Myanmar New_Tai_Lue Tai_Le Tai_Tham Tai_Viet Thai"
_SCRIPTS = "".join(rf"\p{{Script_Extensions={name}}}" for name in f"{_ASIAN} {_SOUTH_EAST_ASIAN}".split())
_LETTER = rf"[[\p{{L}}&&[{_SCRIPTS}]]--\p{{Script_Extensions=Latin}}]"  # without the apostrophe U+02BC, and tone marks
_JOINERS = r"[\u200c\u200d]"  # within words of Persian and of Indic scripts
_UNSEEN = r"[\u00ad\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"  # soft hyphens, variation selectors
_TOKEN = rf"{_LETTER}\p{{M}}*|[[\p{{L}}\p{{N}}]--{_LETTER}](?:{_JOINERS}*[[\p{{L}}\p{{N}}\p{{M}}]--{_LETTER}])*"
# A letter keeps the marks that belong to it, so that a text is not cut in front of its full stop.
_OPENING, _CLOSING = r"[\p{Ps}\p{Pi}]", r"[\p{Pe}\p{Pf}\p{Po}\p{Pd}]"
_ALONE = rf"{_OPENING}*{_LETTER}\p{{M}}*{_CLOSING}*"
_BREAKS = r"\u200b\u0f0b\u0f0c\u1361"  # what Khmer, Tibetan and Ethiopic may have in place of spaces
_WHERE = r"[\u0e00-\u200b\u2c00-\U0010ffff]"  # these letters and breaks are all here; most texts have nothing here
_COUNTED = rf"{_ALONE}|(?:(?!{_OPENING}*{_LETTER})[^\s{_BREAKS}])+[{_BREAKS}]*"


def tokens(text: str) -> list[str]:
    """The words of a text without case and punctuation, in their order.

    For ASCII those of rouge-score: lower-case runs of letters and digits. Composed and decomposed spellings of a text
    (NFC, NFD) have the same words.
    """
    # canonical caseless matching (Unicode, section 3.13): case folding of decomposed text
    folded = unicodedata.normalize("NFD", text).casefold()
    return _pattern(_TOKEN).findall(_pattern(_UNSEEN).sub("", unicodedata.normalize("NFC", folded)))


def kinds(texts: Iterable[str]) -> dict[str, int]:
    """How many words of the texts are of which kind; runs that begin with a digit are of none.

    "latin": Latin script; "spaced": another with spaces between words; "han": Chinese characters, alone; "unspaced":
    letters of another script without spaces, alone.
    """
    counts: dict[str, int] = dict.fromkeys((LATIN, SPACED, HAN, UNSPACED), 0)
    for text in texts:
        for token in tokens(text):
            if _pattern(_LETTER).match(token):
                counts[HAN if _pattern(r"\p{Han}").match(token) else UNSPACED] += 1
            elif token[0].isalpha():
                counts[LATIN if _pattern(r"\p{Latin}").match(token) else SPACED] += 1
    return counts


def word_ends(text: str) -> list[int]:
    """Where the words of a text end, punctuation included: at spaces, and after each letter that counts for itself."""
    pattern = _pattern(_COUNTED if _pattern(_WHERE).search(text) else r"\S+")  # the same, and ten times as fast
    return [word.end() for word in pattern.finditer(text)]


def cut_words(text: str, max_words: int | None) -> str:
    """The first `max_words` words, with what is between them; the whole text for None."""
    ends = [] if max_words is None else word_ends(text)
    return text if max_words is None or max_words >= len(ends) else text[: ends[max_words - 1]]


@cache
def _pattern(pattern: str) -> regex.Pattern[str]:
    return regex.compile(pattern, regex.VERSION1)
