"""A few cases of the fuzz (`fuzz.py`) with fixed numbers: whole requests beside transformers' own `generate`."""

from __future__ import annotations

import pytest
import torch
import transformers
from request_cases import CALL, Case, Item, drawn
from request_check import Difference, run_case
from request_shrink import kind_of, shrunk, simpler
from sparse import mostly_slow

BLOCK = 10


@pytest.mark.parametrize("first", mostly_slow(range(0, 150, BLOCK), lambda first: first < 80))
def test_requests_get_what_transformers_gives_by_every_entrance(first: int) -> None:
    transformers.logging.set_verbosity_error()
    for seed in range(first, first + BLOCK):
        try:
            run_case(drawn(seed))
        except Difference as difference:
            raise AssertionError(f"python tests/fuzz.py --sort requests --seed {seed} --cases 1") from difference


def test_cases_of_one_number_are_one_case_and_have_every_sort_of_option() -> None:
    cases = [drawn(seed) for seed in range(300)]
    assert [str(case) for case in cases] == [str(drawn(seed)) for seed in range(300)]
    assert {item.where for case in cases for item in case.items} == {"call", "config", "saved"}
    assert len({item.name for case in cases for item in case.items}) > 60
    assert len({case.model for case in cases}) > 8


def test_a_fault_is_seen_and_its_case_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    from specbeam.core import greedy

    usual = greedy.token_search
    monkeypatch.setattr(
        "specbeam.decoding.decoders.token_search",
        lambda source, processors, *rest: usual(source, type(processors)(), *rest),  # forgets all processors
    )
    inputs = {"input_ids": torch.tensor([[7, 6, 5, 9]])}
    more = [
        ("max_new_tokens", 8),
        ("suppress_tokens", list(range(12))),
        ("renormalize_logits", True),
        ("use_cache", False),
    ]
    case = Case(0, "hash", 24, 1, "recall", inputs, items=tuple(Item(CALL, name, value) for name, value in more))
    kind = kind_of(case)
    assert kind in ("greedy: sequences", "speculative: sequences")
    assert {item.name for item in shrunk(case, kind).items} == {"max_new_tokens", "suppress_tokens"}
    assert all(len(str(less)) <= len(str(case)) for less in simpler(case))
