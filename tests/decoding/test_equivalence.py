"""Bitwise equality with transformers' `generate` on a fake model: random options, prompts and drafts.

Sequences, scores and beam origins of all decoders and of the drop-in have to be the same in every case.
`test_architectures_small.py` and `test_embedded_pair.py` go on with real models.
"""

from __future__ import annotations

import random

import pytest
import torch
from equivalence import LETTERS, check, options_of, target_of
from fakes import every_draft, fake_pair, hash_lm, left_padded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sparse import mostly_slow

import specbeam as sb

CASES = 2400
CHUNK = 75
pytestmark = pytest.mark.filterwarnings("ignore:Unfeasible length constraints")


@pytest.mark.parametrize("first", mostly_slow(range(0, CASES, CHUNK), lambda first: first < CHUNK))
def test_every_decoder_and_the_drop_in_give_the_tokens_scores_and_origins_of_generate(first: int) -> None:
    for seed in range(first, first + CHUNK):
        randomness = random.Random(seed)
        target = target_of(randomness, seed)
        vocabulary = target.config.vocab_size
        draft = randomness.choice(every_draft(randomness, target, vocabulary))
        inputs, options = left_padded(randomness, vocabulary), options_of(randomness)
        budget = randomness.choice([None, 0, 1, 5, 30])
        check(target, draft, inputs, options, budget, f"case {seed}: {type(draft).__name__} {budget} {options}")


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(0, 6), st.integers(1, 5), st.integers(0, 20), st.integers(1, 12))
def test_no_draft_ever_costs_more_target_passes_than_steps(
    seed: int, kind: int, beams: int, budget: int, max_new_tokens: int
) -> None:
    randomness = random.Random(seed)
    target = target_of(randomness, seed)
    draft = every_draft(randomness, target, target.config.vocab_size)[kind]
    decode = sb.speculative if beams == 1 else sb.speculative_beam
    inputs = left_padded(randomness, target.config.vocab_size)
    stats = decode(
        fake_pair(target, draft),
        inputs,
        num_beams=beams,
        num_assistant_tokens=budget,
        max_new_tokens=max_new_tokens,
    ).stats
    assert 1 <= stats.target_passes <= stats.steps <= max_new_tokens
    assert stats.drafted <= budget * len(inputs["input_ids"]) * (stats.target_passes - 1)


def test_a_draft_that_knows_the_target_saves_most_passes() -> None:
    saved = {}
    for kind in (0, 2, 3):
        passes = 0
        for seed in range(10):
            target = hash_lm(40, seed)
            draft = every_draft(random.Random(seed), target, 40)[kind]
            inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
            passes += sb.speculative_beam(
                fake_pair(target, draft), inputs, num_beams=2, num_assistant_tokens=24, max_new_tokens=12
            ).stats.target_passes
        saved[kind] = passes
    assert saved[0] == 120
    assert saved[2] <= 50
    assert saved[3] == 120  # what it finds least likely is never asked for


def test_prompts_decoded_together_give_what_each_gives_alone() -> None:
    for seed in range(80):
        randomness = random.Random(seed)
        target = target_of(randomness, seed)
        target.config.levels = 49_999  # which of two equal scores comes first may depend on the company
        draft = randomness.choice(every_draft(randomness, target, target.config.vocab_size))
        inputs = left_padded(randomness, target.config.vocab_size, most=4)
        options = options_of(randomness)
        # processors that see how many rows there are, or the padding, do differ between the two
        for name in ("logits_processor", "repetition_penalty", "no_repeat_ngram_size"):
            options.pop(name, None)
        decode = sb.speculative_beam if "num_beams" in options else sb.speculative
        together = decode(fake_pair(target, draft, LETTERS), inputs, **options)
        alone: list[list[int]] = []
        scores: list[float] = []
        for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
            one = {"input_ids": ids[mask.bool()][None]}
            one["attention_mask"] = torch.ones_like(one["input_ids"])  # a prompt may hold the pad id as a token
            decoded = decode(fake_pair(target, draft, LETTERS), one, **options)
            alone += decoded.sequences
            scores += decoded.scores
        assert together.sequences == alone, f"case {seed}: {options}"
        assert together.scores == pytest.approx(scores, abs=1e-5), f"case {seed}: {options}"
