"""Processors that only forbid tokens give the same result from the likeliest tokens as from whole rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes import Oracle, fake_pair, hash_lm
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
)

from specbeam.core.forbidden import only_forbid, without_forbidden
from specbeam.core.tree import Tops
from specbeam.decoding.decoders import METHODS

VOCABULARY = 12


@given(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3),
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3),
    st.integers(0, 6),
    st.integers(1, 8),
    st.lists(st.permutations(range(VOCABULARY)), min_size=3, max_size=3),
)
def test_what_is_left_is_what_whole_rows_would_give(
    ends: list[int], suppressed: list[int], shortest: int, length: int, logits: list[list[int]]
) -> None:
    processors = LogitsProcessorList(
        [
            MinLengthLogitsProcessor(shortest, ends),
            MinNewTokensLengthLogitsProcessor(3, shortest, ends),
            SuppressTokensLogitsProcessor(suppressed),
            SuppressTokensAtBeginLogitsProcessor(ends, 4),
        ]
    )
    log_probs = torch.tensor(logits).float().log_softmax(-1)
    best = log_probs.topk(9)
    tops = Tops(best.indices.numpy()[None], best.values.numpy()[None])
    found = without_forbidden(tops, processors, length)
    wanted = processors(torch.zeros(3, length, dtype=torch.long), log_probs).topk(found.tokens.shape[-1])  # type: ignore
    assert np.array_equal(found.tokens[0], wanted.indices.numpy())
    assert np.array_equal(found.log_probs[0], wanted.values.numpy())
    assert found.tokens.shape[-1] >= 9 - len({*ends, *suppressed})


def test_a_processor_that_does_more_and_a_subclass_of_a_known_one_are_not_taken_for_it() -> None:
    class Own(MinLengthLogitsProcessor):
        pass

    assert only_forbid(LogitsProcessorList())
    assert not only_forbid(LogitsProcessorList([TemperatureLogitsWarper(0.5)]))
    assert not only_forbid(LogitsProcessorList([Own(3, 1)]))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "options",
    [{"min_new_tokens": 6}, {"min_length": 9, "suppress_tokens": [4, 5]}, {"begin_suppress_tokens": [1, 2, 3]}],
)
def test_a_shortest_length_needs_no_row_of_the_vocabulary(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = hash_lm(300, 5, [1, 2], 0)
    target.config.levels = 999_979  # as good as no ties, which need whole rows
    ids = torch.tensor([[3, 4, 5, 6], [9, 8, 7, 6]])
    inputs: Any = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    beams = {"num_beams": 3} if "beam" in name else {}
    wanted: Any = target.generate(**inputs, max_new_tokens=12, do_sample=False, **beams, **options)  # type: ignore[operator]
    monkeypatch.setattr("specbeam.core.source.Source.rows", lambda *_: pytest.fail("a row was read"))
    found = METHODS[name](fake_pair(target, Oracle(target)), inputs, max_new_tokens=12, **beams, **options)
    for row, sequence in zip(wanted[:, 4:].tolist(), found.sequences, strict=True):
        assert row[: len(sequence)] == sequence and not any(row[len(sequence) :])
