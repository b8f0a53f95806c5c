"""TokenMapping: the tokens of one tokenizer in those of another, by their text. It knows two vocabularies and no model.

Tokenizers write the same text in different letters: byte-level BPE has a letter for every byte ("Ġthe"), SentencePiece
a sign for the space ("▁the") and tokens for single bytes ("<0xE2>"). So tokens are compared as the bytes that they
stand for. What has no token of its own on the other side is spelled, the longest pieces first. Marks without a text
(end of sequence, …) are the same if they have the same name or the same role; others are left out, as transformers
does when an assistant has a tokenizer of its own (`skip_special_tokens`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # a token of SentencePiece that is a single byte
LEAST_OVERLAP = 0.05  # of the target's tokens; with fewer in common hardly a word is one token on both sides
_ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")


def _byte_letters() -> dict[str, int]:
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    return {chr(byte): byte for byte in printed} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_letters()  # by letter of GPT-2's byte-level BPE (Radford et al. 2019, `bytes_to_unicode`)


class TokenMapping:
    """How the draft's tokenizer writes the target's tokens, and the other way round.

    Args:
        target_tokenizer, draft_tokenizer: any two of transformers.

    Raises:
        ValueError: where less than `LEAST_OVERLAP` of the target's tokens are tokens of the draft.
    """

    def __init__(self, target_tokenizer: Any, draft_tokenizer: Any):
        self._target, self._draft = _Vocabulary(target_tokenizer), _Vocabulary(draft_tokenizer)
        self._marks = _same_marks(self._target, self._draft, target_tokenizer, draft_tokenizer)
        self._marks_back = {theirs: ours for ours, theirs in self._marks.items()}
        shared = sum(text in self._draft.ids for text in self._target.ids)
        self.overlap = shared / max(len(self._target.ids), 1)  # share of the target's tokens, marks not counted
        if self.overlap < LEAST_OVERLAP:
            raise ValueError(
                f"draft and target have {shared} tokens in common, {self.overlap:.1%} of the target's: too few to "
                f"draft through text ({LEAST_OVERLAP:.0%} are needed). Take a draft for the same languages, or "
                'draft="auto", which needs no model.'
            )
        self.opening: list[int] = _opening(draft_tokenizer)  # what the draft expects in front of a text
        self._spelled: dict[int, tuple[int, ...]] = {}

    def in_draft(self, token: int) -> tuple[int, ...]:
        """The draft's tokens for one of the target's; none for a mark or a byte that the draft does not know."""
        found = self._spelled.get(token)
        if found is None:
            if token in self._marks:
                found = (self._marks[token],)
            else:
                found = tuple(self._draft.pieces(self._target.texts.get(token, b"")))
            self._spelled[token] = found
        return found

    def is_shared(self, token: int) -> bool:
        """Whether a token of the target is one token of the draft."""
        return len(self.in_draft(token)) == 1 and self.in_target(self.in_draft(token))[0] == token

    def in_target(self, tokens: Sequence[int]) -> tuple[int | None, int]:
        """The target's first token for a run of the draft's tokens, and over how many of these it reaches.

        None where the target has no token that the run begins with.
        """
        if tokens[0] in self._marks_back:
            return self._marks_back[tokens[0]], 1
        text, ends = b"", []
        for token in tokens:
            piece = self._draft.texts.get(token)
            if piece is None:  # a mark ends the text
                break
            text += piece
            ends.append(len(text))
        found = self._target.first(text)
        if found is None:
            return None, 0
        token, length = found
        return token, next(place for place, end in enumerate(ends, 1) if end >= length)


class _Vocabulary:
    """The texts of a tokenizer's tokens, as bytes, and the token of every text."""

    def __init__(self, tokenizer: Any):
        self.texts, self.marks = token_bytes(tokenizer)
        self.ids: dict[bytes, int] = {}
        for token, text in self.texts.items():
            self.ids.setdefault(text, token)
        self._longest = max(map(len, self.ids), default=0)

    def first(self, text: bytes) -> tuple[int, int] | None:
        """The longest token that `text` begins with, and its length in bytes."""
        for length in range(min(self._longest, len(text)), 0, -1):
            token = self.ids.get(text[:length])
            if token is not None:
                return token, length
        return None

    def pieces(self, text: bytes) -> list[int]:
        """`text` in tokens, the longest first; bytes that no token begins with are left out."""
        found = []
        while text:
            one = self.first(text)
            if one is not None:
                found.append(one[0])
            text = text[one[1] if one else 1 :]
        return found


def token_bytes(tokenizer: Any) -> tuple[dict[int, bytes], dict[int, str]]:
    """The bytes that every token of a tokenizer adds to a text, and the names of the marks that add none.

    The tokens come by their ids, but those that stand in for single bytes ("<0x61>") after all others: "a" is written
    as "a" where there is a token for it.
    """
    vocabulary: Mapping[str, int] = tokenizer.get_vocab()
    added = {token: str(one) for token, one in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    special = set(tokenizer.all_special_ids)
    special |= {
        t for t, one in getattr(tokenizer, "added_tokens_decoder", {}).items() if getattr(one, "special", False)
    }
    spaced = any(piece.startswith("▁") for piece in vocabulary)
    by_byte = not spaced and any(piece.startswith("Ġ") for piece in vocabulary)
    texts: dict[int, bytes] = {}
    marks: dict[int, str] = {}
    for piece, token in vocabulary.items():
        if token in special:
            marks[token] = piece
        elif token in added:
            texts[token] = added[token].encode()
        elif by_byte and all(letter in BYTES for letter in piece):
            texts[token] = bytes(BYTES[letter] for letter in piece)
        elif byte := BYTE_PIECE.fullmatch(piece):
            texts[token] = bytes([int(byte[1], 16)])
        else:
            texts[token] = (piece.replace("▁", " ") if spaced else piece).encode("utf-8", "surrogatepass")
    stand_ins = {token for piece, token in vocabulary.items() if BYTE_PIECE.fullmatch(piece)}
    ordered = sorted(texts, key=lambda token: (token in stand_ins, token))
    return {token: texts[token] for token in ordered if texts[token]}, marks


def same_vocabulary(target_tokenizer: Any, draft_tokenizer: Any) -> bool:
    """Whether the same ids stand for the same tokens, so that a draft needs no mapping.

    Ids that only one of them has (added tokens, padding of the embedding matrix) do not matter.
    """
    target = {index: token for token, index in target_tokenizer.get_vocab().items()}
    draft = {index: token for token, index in draft_tokenizer.get_vocab().items()}
    shared = target.keys() & draft.keys()
    return bool(shared) and all(target[index] == draft[index] for index in shared)


def _same_marks(ours: _Vocabulary, theirs: _Vocabulary, target_tokenizer: Any, draft_tokenizer: Any) -> dict[int, int]:
    """The draft's mark for a mark of the target: of the same name, else of the same role."""
    named = {name: token for token, name in theirs.marks.items()}
    found = {token: named[name] for token, name in ours.marks.items() if name in named}
    for role in _ROLES:
        one, other = getattr(target_tokenizer, role, None), getattr(draft_tokenizer, role, None)
        if one is not None and other is not None and one not in found and other not in found.values():
            found[one] = other
    return found


def _opening(tokenizer: Any) -> list[int]:
    """What a tokenizer puts in front of every text: its BOS, or nothing."""
    bos = getattr(tokenizer, "bos_token_id", None)
    return [bos] if bos is not None and list(tokenizer("")["input_ids"])[:1] == [bos] else []


Spelling = TokenMapping  # its name before
