"""Agreement with transformers where rounding can decide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import fake_pair
from tiny_models import tiny_llama

import specbeam as sb
from specbeam.evaluation.agreement import Agreement, Difference, _divergence, _Search, agreement
from specbeam.evaluation.tiny_families import tiny_model


def prompts_of(number: int) -> list[dict[str, Any]]:
    torch.manual_seed(1)
    return [{"input_ids": torch.randint(3, 40, (1, 5))} for _ in range(number)]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_in_double_precision_every_prompt_agrees_and_so_does_the_control(num_beams: int) -> None:
    pair = fake_pair(tiny_llama(), sb.RecallDraft())
    found = agreement(pair, prompts_of(4), num_beams=num_beams, max_new_tokens=8)
    assert (found.rate, found.control_rate, found.differences) == (1.0, 1.0, [])
    assert found.noise < (1e-9 if num_beams == 1 else 1e-5)  # beam search adds its scores up in float32


@pytest.mark.parametrize("num_beams", [1, 3])
def test_in_half_precision_differences_are_explained_by_the_noise_of_transformers(num_beams: int) -> None:
    pair = fake_pair(tiny_llama(torch.bfloat16, spread=0.1), sb.RecallDraft())
    found = agreement(pair, prompts_of(12), num_beams=num_beams, max_new_tokens=12)
    assert found.noise > 1e-4
    assert found.unexplained == []


def test_a_decoder_that_answers_for_another_model_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pair, other = fake_pair(tiny_llama(), sb.NoDraft()), fake_pair(tiny_llama(spread=0.4), sb.NoDraft())
    plain = sb.speculative
    monkeypatch.setattr("specbeam.evaluation.agreement.speculative", lambda _, *a, **k: plain(other, *a, **k))
    found = agreement(pair, prompts_of(3), max_new_tokens=6)
    assert found.rate < 1 and found.control_rate == 1
    assert found.unexplained == [one for one in found.differences if not one.control]


def test_only_differences_from_transformers_beyond_twice_the_noise_are_unexplained() -> None:
    ones = [Difference(0, 3, 0.19, False), Difference(1, 0, 0.21, False), Difference(1, 0, 5.0, True)]
    found = Agreement(prompts=4, equal=2, control_equal=3, noise=0.1, differences=ones)
    assert found.unexplained == [ones[1]] and (found.rate, found.control_rate) == (0.5, 0.75)


def test_results_of_different_lengths_are_compared_as_the_search_compares_them() -> None:
    """Both beams ended, one a token earlier than the other; a token more costs a nat and a half."""
    pair = fake_pair(tiny_model("starcoder2", "sdpa").to(torch.bfloat16), sb.RecallDraft())
    torch.manual_seed(1)
    prompts = [{"input_ids": torch.randint(3, 90, (1, 4))}]
    assert agreement(pair, prompts, num_beams=4, max_new_tokens=10).unexplained == []


def test_a_greedy_text_that_goes_on_is_compared_where_the_other_one_ends() -> None:
    ended, other = _Search(0), _Search(0)
    ended.running, ended.result = [[[]], [[5]]], [5, 2]
    other.running, other.result = [[[]], [[5]], [[5, 7]], [[5, 7, 9]]], [5, 7, 9, 4]
    assert _divergence(ended, other) == (2, [5, 2], [5, 7])


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_model_that_says_something_else_token_by_token_is_noisy_by_that_much(num_beams: int) -> None:
    """As quantized layers that look at all rows of a pass, or states that are rounded between passes."""
    model = tiny_llama()
    pair = fake_pair(model, sb.RecallDraft())

    def shifted(module: Any, args: Any, output: Any) -> Any:
        output.logits[..., :20] += 0.01 * (output.logits.shape[1] == 1)
        return output

    quiet = agreement(pair, prompts_of(2), num_beams=num_beams, max_new_tokens=6).noise
    with model.register_forward_hook(shifted):
        noisy = agreement(pair, prompts_of(2), num_beams=num_beams, max_new_tokens=6).noise
    assert quiet < 1e-6 and 1e-3 < noisy < 0.1


def test_several_prompts_in_one_batch_and_none_at_all_are_refused() -> None:
    pair = fake_pair(tiny_llama())
    with pytest.raises(ValueError, match="one prompt each"):
        agreement(pair, [{"input_ids": torch.ones(2, 3, dtype=torch.long)}])
    with pytest.raises(ValueError, match="at least one"):
        agreement(pair, [])
