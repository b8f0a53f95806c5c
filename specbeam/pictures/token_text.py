"""Token texts for pictures: read off a tokenizer once, kept with a trace, and shown so that nothing can go wrong.

A token's text is what it adds to the text before it, spaces included. A piece of a character, which is no text of
its own, is kept as Python's `surrogateescape` keeps bytes: one lone surrogate a byte. Knows no model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from specbeam.core.stats import Trace

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SIGNS = {" ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\x7f": "␡"}


def token_texts(trace: Trace, tokenizer: Any) -> dict[int, str]:
    """The text of every token of a trace, by id; pieces of characters as lone surrogates that stand for bytes."""
    tokens = {node.token for node in trace.nodes} | {token for result in trace.results for token in result}
    return {token: _text(tokenizer, token) for token in sorted(tokens)}


def texts_of(document: Mapping[str, Any]) -> dict[int, str] | None:
    """The texts that `Trace.to_json(texts)` saved, or None. Raises ValueError for what are none."""
    saved = document.get("texts")
    if saved is None:
        return None
    try:
        return {int(token): text if isinstance(text, str) else _unheld(text) for token, text in saved.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the texts of this trace cannot be read: {error}; save them with Trace.to_json(texts)."
        ) from error


def visible(text: str, most: int | None = None) -> str:
    """A text that can be printed anywhere: spaces at its ends, line breaks and controls as signs, bytes as ⟨F0⟩.

    One space before a word is left out. `most` is the longest result in columns (`columns`); what is cut ends with …
    """
    text = joined([text])
    body = text[1:] if len(text) > 1 and text[0] == " " and not text[1:].isspace() else text
    if not body:
        return "∅"
    inner = body.strip(" ")
    left = len(body) - len(body.lstrip(" "))
    shown = (
        "".join(map(_sign, body))
        if not inner
        else "␣" * left + "".join(c if c == " " else _sign(c) for c in inner) + "␣" * (len(body) - left - len(inner))
    )
    if most is None or columns(shown) <= most:
        return shown
    kept = ""
    for character in shown:
        if columns(kept + character) > most - 1:
            break
        kept += character
    return kept + "…"


def joined(texts: Sequence[str]) -> str:
    """The text of several tokens, pieces of characters put together where they make some."""
    text = "".join(texts)
    if not any("\udc80" <= c <= "\udcff" for c in text):
        return text
    safe = "".join(c if not lone(c) or "\udc80" <= c <= "\udcff" else "\ufffd" for c in text)
    return safe.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def completed(texts: Sequence[str]) -> list[str]:
    """The texts, but where pieces make a character together, the last of them has it and the others stay bytes."""
    found = list(texts)
    start = None
    for place, text in enumerate(texts):
        pieces = any(map(lone, text))
        if start is not None and pieces:
            whole = joined(texts[start : place + 1])
            if not any(map(lone, whole)):
                found[place], start = whole, None
                continue
        start = (place if start is None else start) if pieces else None
    return found


def columns(text: str) -> int:
    """How many columns of a monospaced font a text takes."""
    wide = ("W", "F")
    return sum(
        0
        if unicodedata.combining(c) or c in "\u200d\ufe0e\ufe0f"
        else 2
        if unicodedata.east_asian_width(c) in wide
        else 1
        for c in text
    )


def _text(tokenizer: Any, token: int) -> str:
    text = tokenizer.decode([token])
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    piece = convert(token) if convert is not None else None
    if not isinstance(piece, str):
        return text
    if found := BYTE_PIECE.fullmatch(piece):
        return joined([bytes([int(found[1], 16)]).decode("utf-8", "surrogateescape")])
    if "\ufffd" in text and "\ufffd" not in piece and all(c in BYTES for c in piece):
        return bytes(BYTES[c] for c in piece).decode("utf-8", "surrogateescape")
    # SentencePiece's decoder takes the space off the first word that it sees
    return " " + text if piece.startswith("▁") and not text.startswith(" ") else text


def _byte_letters() -> dict[str, int]:
    """Byte by letter of GPT-2's byte-level BPE (Radford et al. 2019, `bytes_to_unicode`)."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_letters()


def _unheld(values: Sequence[int]) -> str:
    return bytes(values).decode("utf-8", "surrogateescape")


def lone(character: str) -> bool:
    """Whether it is half a character, or a byte of one: no text of its own."""
    return "\ud800" <= character <= "\udfff"


def _sign(character: str) -> str:
    """What stands for a character that cannot be seen, that moves others, or that XML does not hold."""
    if character in _SIGNS:
        return _SIGNS[character]
    if "\udc80" <= character <= "\udcff":
        return f"⟨{ord(character) - 0xDC00:02X}⟩"
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number)
    kind = unicodedata.category(character)
    joins = character == "\u200d"  # holds emoji together
    if kind in ("Cc", "Cs", "Zl", "Zp", "Cn", "Co") or (kind == "Cf" and not joins) or kind == "Zs":
        return f"⟨U+{number:04X}⟩"
    return character
