"""Every family of models decodes as transformers' `generate` does: tiny random models in float64, 100 %."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from sparse import mostly_slow

from specbeam.engines.families import BOUND_TO_SLOTS, TESTED, why_no_tree
from specbeam.engines.torch_engine import TorchEngine
from specbeam.evaluation.family_cases import CASES, FEW, Case, WildDraft, run_case, run_family
from specbeam.evaluation.tiny_families import FAMILIES, Family, named, tiny_model


def spoken(family: Family) -> str:
    """The name that a test has on the command line."""
    return family.name.replace(" ", "")


each_family = pytest.mark.parametrize("family", FAMILIES, ids=spoken)
BY_SEQUENCES = {
    *("mpt", "gpt_neo", "openai-gpt", "llama4_text", "lfm2", "mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm"),
    *("recurrent_gemma", "jamba", "bamba", "falcon_h1", "granitemoehybrid", "qwen3_next"),
}


OFTEN = {  # of each kind of positions, masks and layers one, and what is used most
    *("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "mixtral", "phi", "phi3", "gpt2", "gpt_neox"),
    *("opt", "bloom", "falcon (ALiBi)", "gpt_oss", "mpt", "mamba", "recurrent_gemma"),
}


def assert_equal(family: Family, cases: tuple[Case, ...]) -> None:
    rows = run_family(family, cases)
    assert rows
    for row in rows:
        assert row.different == []
        assert row.equal == row.cases == len(cases)
        assert row.way == ("sequences" if family.kind in BY_SEQUENCES else "tree")
        assert row.tokens > 8  # equality of a model that repeats one token would prove nothing
        assert row.dtype == "float64"


def test_the_families_that_count_as_tested_are_those_with_a_tiny_model() -> None:
    assert {family.kind for family in FAMILIES} == TESTED


@pytest.mark.parametrize(
    "family",
    mostly_slow(FAMILIES, lambda family: family.name in OFTEN),
    ids=lambda family: family.name.replace(" ", ""),
)
def test_decoding_equals_generate(family: Family) -> None:
    assert_equal(family, FEW)


@pytest.mark.slow
@each_family
def test_decoding_equals_generate_in_all_cases(family: Family) -> None:
    assert_equal(family, CASES)


def test_the_few_cases_hold_every_pair_of_values() -> None:
    parts = ("length", "batch", "num_beams", "draft")
    for first, second in combinations(parts, 2):
        pairs = {(getattr(case, first), getattr(case, second)) for case in FEW}
        wanted = product({getattr(case, first) for case in CASES}, {getattr(case, second) for case in CASES})
        assert pairs == set(wanted)


@pytest.mark.parametrize("name", ["llama", "mistral", "bloom", "falcon (ALiBi)"])
def test_branches_that_see_each_other_are_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = TorchEngine._mask

    def open_mask(self: Any, visible: Any, *positions: Any) -> Any:
        return mask(self, visible | (visible.shape[1] != visible.shape[2]), *positions)

    monkeypatch.setattr(TorchEngine, "_mask", open_mask)
    difference, _ = run_case(tiny_model(name), Case("long", 1, 4, "random"))
    assert difference is not None and "instead of" in difference


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "bloom"])
def test_positions_that_follow_slots_are_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = TorchEngine._forward

    def by_slot(self: Any, ids: Any, mask: Any, positions: Any, slot_positions: Any, **options: Any) -> Any:
        slots = np.arange(slot_positions.shape[1])
        rows = torch.from_numpy(slots[-positions.shape[1] :]).expand(positions.shape)
        return forward(self, ids, mask, rows, np.broadcast_to(slots, slot_positions.shape), **options)

    monkeypatch.setattr(TorchEngine, "_forward", by_slot)
    difference, _ = run_case(tiny_model(name), Case("long", 1, 4, "random"))
    assert difference is not None and "instead of" in difference


def test_a_window_counted_in_slots_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbeam.engines.families.windows", lambda model: {})
    difference, _ = run_case(tiny_model("mistral"), Case("long", 1, 4, "oracle"))
    assert difference is not None and "instead of" in difference


def test_a_draft_that_fails_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no proposals")

    monkeypatch.setattr(WildDraft, "propose", fails)
    with pytest.raises((RuntimeError, UserWarning), match="no proposals"):
        run_case(tiny_model("llama"), Case("short", 1, 1, "random"))


@pytest.mark.parametrize("kind", sorted(BOUND_TO_SLOTS))
def test_a_family_in_the_table_could_not_be_served_by_a_tree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(kind)
    assert why_no_tree(model) == BOUND_TO_SLOTS[kind]
    monkeypatch.delitem(BOUND_TO_SLOTS, kind)
    assert why_no_tree(model) is None
    for case in (Case("long", 3, 4, "random"), Case("long", 3, 4, "oracle")):
        try:
            difference, _ = run_case(model, case)
        except (RuntimeError, UserWarning):  # or its tables of masks have too few slots
            return
        assert difference is not None


def test_a_wrapper_from_elsewhere_is_trusted_to_hand_options_on() -> None:
    model = tiny_model("llama")
    forward = type(model).forward

    class Wrapped(type(model)):
        def forward(self, input_ids: Any = None, **options: Any) -> Any:
            return forward(self, input_ids=input_ids, **options)

    Wrapped.__module__ = "elsewhere"
    model.__class__ = Wrapped
    assert why_no_tree(model) is None
    difference, _ = run_case(model, Case("long", 3, 4, "oracle"))
    assert difference is None


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma2", "gpt2", "opt", "bloom"])
def test_a_prompt_that_is_read_in_parts_gives_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbeam.engines.torch_engine.CHUNK", 4)
    for row in run_family(named(kind)):
        assert (row.way, row.equal) == ("tree", row.cases), row.different
