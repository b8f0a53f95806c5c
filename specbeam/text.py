"""Texts that can be written as UTF-8. Every room but the core uses it."""

from __future__ import annotations

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
