"""Token texts: read off tokenizers of several kinds, and shown so that they can neither hide nor break anything."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_factory import two_beams

from specbeam.pictures.drawing import text
from specbeam.pictures.token_text import columns, completed, joined, lines_of, token_texts, visible

PIECES = [b"\xf0\x9f".decode("utf-8", "surrogateescape"), b"\x98\x80".decode("utf-8", "surrogateescape")]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (" machines", "machines"),
        ("machines", "machines"),
        (" ", "␣"),
        ("   ", "␣␣␣"),
        ("  x", "␣x"),
        ("x ", "x␣"),
        (" a b", "a b"),
        ("\n", "↵"),
        (":\n\n", ":↵↵"),
        (" \n", "␣↵"),
        ("\t", "⇥"),
        ("", "∅"),
        ("\x00\x1b[31m", "␀␛[31m"),
        ("<script>", "<script>"),
        ("\u202eevil", "⟨U+202E⟩evil"),
        ("\ud83d", "⟨U+D83D⟩"),
        (PIECES[0], "⟨F0⟩⟨9F⟩"),
        ("\ufffe", "⟨U+FFFE⟩"),
        ("😀", "😀"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        (" שלום", "שלום"),
    ],
)
def test_what_cannot_be_seen_is_shown_by_a_sign(words, shown):
    assert visible(words) == shown


@given(st.text(st.characters(), min_size=0), st.integers(2, 12))
def test_any_text_fits_its_room_and_is_well_formed_as_markup(words, most):
    shown = visible(words, most)
    assert columns(shown) <= most and shown
    body = ET.fromstring(f'<a b="{text(words)}">{text(words)}<c>{text(shown)}</c></a>')
    assert body.findtext("c") == shown


def test_columns_count_wide_letters_twice_and_marks_not_at_all():
    assert [columns(words) for words in ("abc", "日本", "é", "e\u0301", "😀")] == [3, 4, 1, 1, 2]


def test_pieces_of_a_character_are_put_together_at_the_last_of_them():
    assert joined(PIECES) == "😀"
    assert completed(["a", *PIECES, "b"]) == ["a", PIECES[0], "😀", "b"]
    assert completed([PIECES[0], "b", PIECES[1]]) == [PIECES[0], "b", PIECES[1]]


class Byte:
    """Token 1 is a byte-level piece (GPT-2), 2 a SentencePiece word, 3 a byte of its fallback, 4 a plain one."""

    pieces = ("x", "ðŁ", "▁dogs", "<0x0A>", "and")

    def decode(self, tokens):
        return ("x", "\ufffd", "dogs", "\n", "and")[min(tokens[0], 4)]

    def convert_ids_to_tokens(self, token):
        return self.pieces[min(token, 4)]


def test_spaces_and_bytes_are_read_off_the_tokenizers_pieces():
    texts = token_texts(two_beams(), Byte())
    assert [texts[i] for i in range(1, 5)] == [PIECES[0], " dogs", "\n", "and"]
    assert set(texts) == set(range(10))


def test_a_tokenizer_that_only_decodes_is_enough():
    class Words:
        def decode(self, tokens):
            return f" w{tokens[0]}"

    assert token_texts(two_beams(), Words())[3] == " w3"


def test_lines_are_broken_between_words_and_within_words_that_are_longer():
    assert lines_of("one two three", 7) == ["one two", "three"]
    assert lines_of("abcdefgh ij", 3) == ["abc", "def", "gh", "ij"]
    assert lines_of("中文中文 a", 5) == ["中文", "中文", "a"]
    assert lines_of("中", 1) == ["中"] and lines_of("", 5) == []
