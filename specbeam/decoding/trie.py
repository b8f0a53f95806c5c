"""Trie: the sequences that a decode may answer with, such as names, API calls or the codes of items.

It means what transformers' `prefix_allowed_tokens_fn` means by a function that looks the generated tokens up, and it is
known ahead: what it leaves no choice about is drafted without a guess.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

Branches = dict[int, Any]  # a token -> the branches after it


class Trie:
    """Permitted answers, as token ids.

    Args:
        sequences: the answers, without end-of-sequence tokens.
        end: the token or tokens that may follow a complete answer, for example `tokenizer.eos_token_id`.

    Raises ValueError for no answers, for an empty one, and for what is no token id.
    """

    def __init__(self, sequences: Iterable[Sequence[int]], end: int | Sequence[int]):
        self.end = _ids(end if isinstance(end, Sequence) else [end], "end")
        if not self.end:
            raise ValueError("end has no token; give the one that ends an answer, for example tokenizer.eos_token_id.")
        self.largest = max(self.end)
        self._branches: Branches = {}
        for number, sequence in enumerate(sequences):
            tokens = _ids(sequence, f"sequence {number}")
            if not tokens:
                raise ValueError(f"sequence {number} is empty; leave it out, or give the tokens of an answer.")
            if twice := sorted({*self.end} & {*tokens}):
                raise ValueError(f"sequence {number} holds the end token {twice[0]}; leave it out: it is added here.")
            at = self._branches
            for token in tokens:
                at = at.setdefault(token, {})
            at.update({token: {} for token in self.end})
            self.largest = max(self.largest, *tokens)
        if not self._branches:
            raise ValueError("there are no sequences; give at least one permitted answer.")

    def after(self, tokens: Sequence[int]) -> list[int]:
        """What may follow these generated tokens; the end tokens where they are no beginning of a permitted answer."""
        at = self._branches
        for token in tokens:
            if token not in at:
                return self.end
            at = at[token]
        return [*at] or self.end

    def check(self, vocabulary: int) -> None:
        """Raises ValueError for tokens that a target with such a vocabulary does not have."""
        if self.largest >= vocabulary:
            raise ValueError(
                f"allowed has the token {self.largest}, and the target knows tokens 0 to {vocabulary - 1}; tokenize "
                "the answers with the target's tokenizer."
            )

    def function(self, prompt_length: int) -> Callable[[int, Tensor], list[int]]:
        """The same as `prefix_allowed_tokens_fn` of `generate`, for prompts of this many tokens, padding included."""
        return lambda batch, input_ids: self.after(input_ids[prompt_length:].tolist())


def keep_to(allowed: Any, prompt_length: int, options: Mapping[str, Any]) -> Callable[[int, Tensor], list[int]]:
    """`Trie.function` of the option `allowed`. Raises ValueError for what is no trie, and beside another such rule."""
    if not isinstance(allowed, Trie):
        raise ValueError(f"allowed has to be a specbeam.Trie of token ids, got {type(allowed).__name__}.")
    if options.get("prefix_allowed_tokens_fn") is not None:
        raise ValueError("allowed and prefix_allowed_tokens_fn both say what may follow; give one of them.")
    return allowed.function(prompt_length)


def _ids(tokens: Iterable[Any], what: str) -> list[int]:
    try:
        found = [operator.index(token) for token in tokens]
    except TypeError:
        raise ValueError(f"{what} has to be token ids, got {tokens!r}; tokenize texts first.") from None
    if negative := [token for token in found if token < 0]:
        raise ValueError(f"{what} has the token id {negative[0]}, which is negative.")
    return found
