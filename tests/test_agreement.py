"""Agreement with transformers where rounding can decide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import fake_pair
from tiny_models import tiny_llama

import specbeam as sb
from specbeam.agreement import Agreement, Difference, agreement


def prompts_of(number: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [{"input_ids": torch.randint(3, 40, (1, 5))} for _ in range(number)]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_in_double_precision_every_prompt_agrees_and_so_does_the_control(num_beams: int) -> None:
    pair = fake_pair(tiny_llama(), sb.RecallDraft())
    found = agreement(pair, prompts_of(4), num_beams=num_beams, max_new_tokens=8)
    assert (found.rate, found.control_rate, found.differences) == (1.0, 1.0, [])
    assert found.noise < 1e-9


@pytest.mark.parametrize("num_beams", [1, 3])
def test_in_half_precision_differences_are_explained_by_the_noise_of_transformers(num_beams: int) -> None:
    pair = fake_pair(tiny_llama(torch.bfloat16, spread=0.1), sb.RecallDraft())
    found = agreement(pair, prompts_of(12), num_beams=num_beams, max_new_tokens=12)
    assert found.noise > 1e-4
    assert found.unexplained == []


def test_a_decoder_that_answers_for_another_model_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, other = fake_pair(tiny_llama(), sb.NoDraft()), fake_pair(tiny_llama(spread=0.4), sb.NoDraft())
    plain = sb.speculative
    monkeypatch.setattr("specbeam.agreement.speculative", lambda _, *a, **k: plain(other, *a, **k))
    found = agreement(pair, prompts_of(3), max_new_tokens=6)
    assert found.rate < 1 and found.control_rate == 1
    assert found.unexplained == [one for one in found.differences if not one.control]


def test_only_differences_from_transformers_beyond_twice_the_noise_are_unexplained() -> None:
    ones = [Difference(0, 3, 0.19, False), Difference(1, 0, 0.21, False), Difference(1, 0, 5.0, True)]
    found = Agreement(prompts=4, equal=2, control_equal=3, noise=0.1, differences=ones)
    assert found.unexplained == [ones[1]] and (found.rate, found.control_rate) == (0.5, 0.75)


def test_several_prompts_in_one_batch_and_none_at_all_are_refused() -> None:
    pair = fake_pair(tiny_llama())
    with pytest.raises(ValueError, match="one prompt each"):
        agreement(pair, [{"input_ids": torch.ones(2, 3, dtype=torch.long)}])
    with pytest.raises(ValueError, match="at least one"):
        agreement(pair, [])
