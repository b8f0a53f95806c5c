"""Token texts for pictures: read from a tokenizer once, kept with a trace, and shown safely whatever they hold.

A token's text is what it adds to the text before it, spaces included. A token may hold only some bytes of a character:
these are kept as Python's `surrogateescape` keeps bytes, one lone surrogate a byte.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from specbeam.decoding.trace import Trace
from specbeam.drafts.token_mapping import BYTE_PIECE, BYTES

_SIGNS = {" ": "␣", "\n": "↵", "\r": "␍", "\t": "⇥", "\u00a0": "⍽", "\x7f": "␡"}


def token_texts(trace: Trace, tokenizer: Any) -> dict[int, str]:
    """The text of every token of a trace, by id; bytes of incomplete characters as lone surrogates."""
    tokens = {node.token for node in trace.nodes} | {token for result in trace.results for token in result}
    return {token: _text(tokenizer, token) for token in sorted(tokens)}


def texts_of(document: Mapping[str, Any]) -> dict[int, str] | None:
    """The texts that `Trace.to_json(texts)` saved, or None. Raises ValueError if they cannot be read."""
    saved = document.get("texts")
    if saved is None:
        return None
    try:
        return {int(token): text if isinstance(text, str) else _escaped(bytes(text)) for token, text in saved.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"the texts of this trace cannot be read: {error}; save them with Trace.to_json(texts)."
        ) from error


def visible(text: str, most: int | None = None) -> str:
    """A text that can be printed anywhere: outer spaces, line breaks and controls as signs, bytes as ⟨F0⟩.

    One space before a word is left out. `most` is the longest result in columns (`columns`); a cut one ends with …
    """
    text = joined([text])
    body = text[1:] if len(text) > 1 and text[0] == " " and not text[1:].isspace() else text
    if not body:
        return "∅"
    inner = body.strip(" ")
    left, right = (len(body) - len(rest) for rest in (body.lstrip(" "), body.rstrip(" ")))
    shown = "".join(c if c == " " else _sign(c) for c in inner)
    shown = "␣" * left + (shown + "␣" * right if inner else "")
    if most is None or columns(shown) <= most:
        return shown
    ends = (end for end in range(len(shown), -1, -1) if columns(shown[:end]) < most)
    return shown[: next(ends)] + "…"


def joined(texts: Sequence[str]) -> str:
    """The text of several tokens; bytes that make a character together become that character."""
    text = "".join(texts)
    if not any(map(_is_byte, text)):
        return text
    safe = "".join(c if not lone(c) or _is_byte(c) else "\ufffd" for c in text)
    return _escaped(safe.encode("utf-8", "surrogateescape"))


def completed(texts: Sequence[str]) -> list[str]:
    """The texts, a character of several tokens moved whole to the last of them; the others stay bytes."""
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
    taking = (c for c in text if not unicodedata.combining(c) and c not in "\u200d\ufe0e\ufe0f")
    return sum(2 if unicodedata.east_asian_width(c) in ("W", "F") else 1 for c in taking)


def lines_of(text: str, most: int) -> list[str]:
    """The text in lines of at most so many columns, broken between words, and within words that are longer."""
    lines: list[str] = []
    for word in text.split():
        if lines and columns(f"{lines[-1]} {word}") <= most:
            lines[-1] += f" {word}"
            continue
        while columns(word) > most:
            end = next(end for end in range(len(word), 0, -1) if columns(word[:end]) <= most or end == 1)
            lines, word = [*lines, word[:end]], word[end:]
        if word:
            lines.append(word)
    return lines


def lone(character: str) -> bool:
    """Whether a character is a surrogate: half a character, or a byte of one."""
    return "\ud800" <= character <= "\udfff"


def _is_byte(character: str) -> bool:
    """Whether a surrogate stands for a byte, as `surrogateescape` makes them."""
    return "\udc80" <= character <= "\udcff"


def _escaped(piece: bytes) -> str:
    return piece.decode("utf-8", "surrogateescape")


def _text(tokenizer: Any, token: int) -> str:
    text = tokenizer.decode([token])
    convert = getattr(tokenizer, "convert_ids_to_tokens", None)
    piece = convert(token) if convert is not None else None
    if not isinstance(piece, str):
        return text
    if found := BYTE_PIECE.fullmatch(piece):
        return _escaped(bytes([int(found[1], 16)]))
    if "\ufffd" in text and "\ufffd" not in piece and all(c in BYTES for c in piece):
        return _escaped(bytes(BYTES[c] for c in piece))
    # SentencePiece's decoder drops the space before the first word
    return " " + text if piece.startswith("▁") and not text.startswith(" ") else text


def _sign(character: str) -> str:
    """The sign for a character that is invisible, that moves others, or that XML cannot hold; else the character."""
    if character in _SIGNS:
        return _SIGNS[character]
    if _is_byte(character):
        return f"⟨{ord(character) - 0xDC00:02X}⟩"
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number)
    kind = unicodedata.category(character)
    joins = character == "\u200d"  # holds emoji together
    if kind in ("Cc", "Cs", "Zl", "Zp", "Cn", "Co") or (kind == "Cf" and not joins) or kind == "Zs":
        return f"⟨U+{number:04X}⟩"
    return character
