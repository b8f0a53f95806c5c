"""Makes a request that differs smaller, for as long as it differs in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from request_cases import CALL, Case
from request_check import Difference, run_case
from request_models import HASH
from torch import Tensor


def kind_of(case: Case) -> str | None:
    """In what the case differs from transformers, if it does."""
    try:
        run_case(case)
    except Difference as difference:
        return difference.kind
    except Exception as error:
        return f"{type(error).__name__} in the comparison"
    return None


def shrunk(case: Case, kind: str) -> Case:
    """The smallest case found that differs in the same way."""
    again = True
    while again:
        again = False
        for less in simpler(case):
            if kind_of(less) == kind:
                case, again = less, True
                break
    return case


def simpler(case: Case) -> Iterator[Case]:
    """The cases that have one thing less."""
    for i in range(len(case.items)):
        yield replace(case, items=case.items[:i] + case.items[i + 1 :])
    for row in range(len(case.inputs["input_ids"])):
        if len(case.inputs["input_ids"]) > 1:
            rest = {name: _less(value, row) for name, value in case.inputs.items()}
            yield replace(case, inputs=rest)
    for name in case.inputs:
        if name != "input_ids":
            yield replace(case, inputs={other: value for other, value in case.inputs.items() if other != name})
    for name, plain in {"draft": "none", "budget": None, "how": "ids", "model": HASH}.items():
        if getattr(case, name) != plain and (name != "model" or "token_type_ids" not in case.inputs):
            yield replace(case, **{name: plain})
    for item in case.items:
        if item.where != CALL:
            moved = (replace(item, where=CALL) if other is item else other for other in case.items)
            yield replace(case, items=tuple(moved))


def _less(value: Any, row: int) -> Any:
    return torch.cat([value[:row], value[row + 1 :]]) if isinstance(value, Tensor) else value
