"""SpeculativeLM: the options of transformers' `generate` mean what they mean for the target alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import Oracle, fake_pair, hash_lm
from transformers import MaxTimeCriteria, StoppingCriteria, StoppingCriteriaList

import specbeam as sb

IDS = torch.tensor([[0, 0, 4, 5], [6, 7, 8, 9]])
MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])


class Remember:
    """A streamer that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []
        self.ended = 0

    def put(self, value: torch.Tensor) -> None:
        self.given.append(value.flatten().tolist())

    def end(self) -> None:
        self.ended += 1


DAY_S = 86_400.0  # the clock of MaxTimeCriteria starts when the tests are collected, long before they run


class UntilSeven(StoppingCriteria):
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        return input_ids[:, -1] % 7 == 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3, "num_return_sequences": 2},
        {"stopping_criteria": StoppingCriteriaList([UntilSeven()])},
        {"num_beams": 2, "stopping_criteria": StoppingCriteriaList([UntilSeven(), MaxTimeCriteria(DAY_S)])},
        {"output_scores": True, "output_logits": True, "return_dict_in_generate": True},
        {"num_beams": 3, "output_scores": True, "output_logits": True, "return_dict_in_generate": True},
        {"bad_words_ids": [[3], [5, 6]], "num_beams": 2},
        {"max_length": 9, "max_new_tokens": None},
    ],
)
def test_options_of_generate_mean_the_same(options: dict[str, Any]) -> None:
    target = hash_lm(30, 3, [1, 2], 1)
    asked: Any = {"input_ids": IDS, "attention_mask": MASK, "max_new_tokens": 10, "do_sample": False, **options}
    expected: Any = target.generate(**asked)  # type: ignore[operator]
    lm = sb.SpeculativeLM(target, Oracle(target), num_assistant_tokens=8)
    given: Any = lm.generate(**asked)
    if not isinstance(expected, torch.Tensor):
        for name in ("scores", "logits"):
            for a, b in zip(getattr(expected, name), getattr(given, name), strict=True):
                assert torch.equal(a, b), name
        expected, given = expected.sequences, given.sequences
    assert torch.equal(expected, given)
    assert lm.stats is not None and lm.stats.target_passes <= lm.stats.steps
    if "output_scores" not in options:  # scores are wanted of the padding too, which no draft foresees
        assert lm.stats.target_passes < lm.stats.steps


def test_a_streamer_is_given_the_same_tokens() -> None:
    target = hash_lm(30, 2, [1], 1)
    theirs, ours = Remember(), Remember()
    target.generate(IDS[1:], max_new_tokens=8, do_sample=False, streamer=theirs)  # type: ignore[operator]
    sb.SpeculativeLM(target, Oracle(target)).generate(IDS[1:], max_new_tokens=8, do_sample=False, streamer=ours)
    assert theirs.given == ours.given
    assert ours.ended == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"assistant_model": hash_lm()}, "assistant_model"),
        ({"output_attentions": True}, "output_attentions"),
        ({"num_beams": 0}, "num_beams"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences"),
        ({"max_new_tokns": 4}, "max_new_tokns"),
        ({"input_ids": torch.zeros(1, 0, dtype=torch.long)}, "prompt is empty"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    lm = sb.SpeculativeLM(hash_lm(), sb.NoDraft())
    with pytest.raises(ValueError, match=message):
        lm.generate(**{"input_ids": IDS[1:], **options})


def test_a_forward_pass_outside_generate_is_refused_and_the_rest_of_the_target_is_there() -> None:
    target = hash_lm()
    lm = sb.SpeculativeLM(target, hash_lm(24, 2))
    assert lm.device == target.device
    with pytest.raises(ValueError, match="generate"):
        lm(IDS)


def test_a_pad_token_outside_the_vocabulary_fills_up_what_a_criterion_ended_and_has_no_scores() -> None:
    target = hash_lm(30, 3, [1, 2], 1)
    lm = sb.SpeculativeLM(target, sb.NoDraft())
    asked: Any = {"input_ids": IDS, "attention_mask": MASK, "max_new_tokens": 10, "pad_token_id": 45}
    asked["stopping_criteria"] = StoppingCriteriaList([UntilSeven()])
    expected: Any = target.generate(**asked)  # type: ignore[operator]
    assert (expected == 45).any()
    assert torch.equal(lm.generate(**asked), expected)
    with pytest.raises(ValueError, match=r"pad_token_id=45 is none of the 30 tokens.*leave output_scores"):
        lm.generate(**asked, output_scores=True, return_dict_in_generate=True)


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3, "num_return_sequences": 2}, {"eos_token_id": 5, "pad_token_id": 5}]
)
def test_the_statistics_count_the_returned_tokens(options: dict[str, Any]) -> None:
    target = hash_lm(30, 3, [1, 2], 0)
    lm = sb.SpeculativeLM(target, sb.RecallDraft())
    lm.generate(input_ids=IDS, attention_mask=MASK, max_new_tokens=10, do_sample=False, **options)
    method = sb.beam if "num_beams" in options else sb.greedy
    decoded = method(fake_pair(target), {"input_ids": IDS, "attention_mask": MASK}, max_new_tokens=10, **options)
    assert lm.stats is not None and lm.stats.new_tokens == decoded.stats.new_tokens == sum(map(len, decoded.sequences))
    assert lm.stats.tokens_per_second > 0
