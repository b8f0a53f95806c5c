"""Texts that can be written as UTF-8, and files that hold such. Every room but the core uses it."""

from __future__ import annotations

import codecs
from pathlib import Path

SURROGATES = ("\ud800", "\udfff")  # the first and the last; Python also keeps bytes of an argument as such


def is_whole(text: str) -> bool:
    """Whether the text can be written as UTF-8."""
    return text.isascii() or not any(SURROGATES[0] <= letter <= SURROGATES[1] for letter in text)


def check_text(text: str, what: str) -> None:
    """Raises ValueError, saying `what` it is, for a text with half of a surrogate pair, which is no character."""
    if is_whole(text):
        return
    place = next(place for place, letter in enumerate(text) if not is_whole(letter))
    raise ValueError(
        f"{what} holds {text[place]!r} as its character {place + 1}, which is half of a surrogate pair, or a byte that "
        "is no UTF-8; write it in UTF-8"
    )


def read_utf8(path: Path) -> str:
    """A file's text, in UTF-8, or in UTF-16 where it begins by saying so. Raises ValueError, naming the file, else."""
    data = path.read_bytes()
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        line, wrong = data[: error.start].count(b"\n") + 1, data[error.start : error.start + 1]
        raise ValueError(f"{path} is no UTF-8 text: line {line} holds the byte {wrong!r}; save it as UTF-8.") from None
