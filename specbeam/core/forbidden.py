"""Processors that only forbid tokens: without those, the likeliest tokens that are left are still the likeliest.

The usual one is a shortest length. So no row that is as wide as the vocabulary is touched for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import transformers as known
from transformers import LogitsProcessorList

from .tree import Tops

# of a processor: the tokens that it may forbid, and whether it forbids them at a length, prompt included
_RULES: dict[type, Callable[[Any, int], tuple[Any, bool]]] = {
    known.MinLengthLogitsProcessor: lambda p, n: (p.eos_token_id, n < p.min_length),
    known.MinNewTokensLengthLogitsProcessor: lambda p, n: (
        p.eos_token_id,
        n < p.prompt_length_to_skip + p.min_new_tokens,
    ),
    known.SuppressTokensLogitsProcessor: lambda p, n: (p.suppress_tokens, True),
    known.SuppressTokensAtBeginLogitsProcessor: lambda p, n: (p.begin_suppress_tokens, n == p.begin_index),
}


def only_forbid(processors: LogitsProcessorList) -> bool:
    """Whether they do nothing else; a subclass of a known processor may do anything."""
    return all(type(each) in _RULES for each in processors)


def without_forbidden(tops: Tops, processors: LogitsProcessorList, length: int) -> Tops:
    """What is left of the likeliest tokens after sequences of so many tokens: as many in each row."""
    rules = [_RULES[type(each)](each, length) for each in processors]
    forbidden = [np.asarray(tokens).reshape(-1) for tokens, active in rules if active]
    if not forbidden or not (gone := _is_in(tops.tokens, np.concatenate(forbidden))).any():
        return tops
    left = np.argsort(gone, axis=-1, kind="stable")[..., : gone.shape[-1] - gone.sum(-1).max()]
    return Tops(*[np.take_along_axis(each, left, -1) for each in tops])


def _is_in(tokens: np.ndarray, some: np.ndarray) -> np.ndarray:
    """`np.isin`, which takes a third of a millisecond, of mostly one or two."""
    return (tokens[..., None] == some).any(-1) if len(some) <= 8 else np.isin(tokens, some)
