"""Bitwise equality with transformers' `generate` on a fake model: random options, prompts and drafts.

Sequences, scores and beam origins of all decoders and of the drop-in have to be the same in every case.
`test_architectures_small.py` and `test_embedded_pair.py` go on with real models.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from fakes import HashLM, every_draft, fake_pair, hash_lm, left_padded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast

import specbeam as sb

CASES = 2400
CHUNK = 300
pytestmark = pytest.mark.filterwarnings("ignore:Unfeasible length constraints")


class Favour(LogitsProcessor):
    """A user's own processor: looks at the whole sequence, and at how many rows it is called with."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        scores = scores.clone()
        for row, ids in enumerate(input_ids.tolist()):
            scores[row, sum(ids) % scores.shape[1]] += 0.5 + len(input_ids) / 8
        return scores


def letters() -> PreTrainedTokenizerFast:
    """A tokenizer of 40 tokens, a letter or two each."""
    words = [chr(97 + i) for i in range(26)] + [chr(97 + i) + "a" for i in range(14)]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="a"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")  # type: ignore[assignment]
    tokenizer.decoder = Fuse()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


LETTERS = letters()


def options_of(randomness: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {"max_new_tokens": randomness.randint(1, 12)}
    if randomness.random() < 0.3:
        options["repetition_penalty"] = 1.3
    if randomness.random() < 0.2:
        options["no_repeat_ngram_size"] = 2
    if randomness.random() < 0.2:
        options["min_new_tokens"] = 2
    if randomness.random() < 0.2:
        options["logits_processor"] = LogitsProcessorList([Favour()])
    if randomness.random() < 0.1:
        options |= {"stop_strings": ["ab", "c", "xa"], "tokenizer": LETTERS}
    beams = randomness.choice([1, 1, 2, 3, 4, 5, 6])
    if beams > 1:
        options |= {
            "num_beams": beams,
            "num_return_sequences": randomness.randint(1, beams),
            "length_penalty": randomness.choice([-1.0, 0.0, 0.5, 1.0, 2.0]),
            "early_stopping": randomness.choice([True, False, "never"]),
        }
    return options


def target_of(randomness: random.Random, salt: int) -> HashLM:
    vocabulary = randomness.randint(12, 40)
    eos = randomness.sample(range(vocabulary), randomness.randint(1, 3))
    return hash_lm(vocabulary, salt, eos, randomness.choice([eos[0], 0, 5]))


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_every_decoder_and_the_drop_in_give_the_tokens_scores_and_origins_of_generate(first: int) -> None:
    for seed in range(first, first + CHUNK):
        randomness = random.Random(seed)
        target = target_of(randomness, seed)
        vocabulary = target.config.vocab_size
        draft = randomness.choice(every_draft(randomness, target, vocabulary))
        inputs, options = left_padded(randomness, vocabulary), options_of(randomness)
        budget = randomness.choice([None, 0, 1, 5, 30])
        check(target, draft, inputs, options, budget, f"case {seed}: {type(draft).__name__} {budget} {options}")


def check(
    target: HashLM, draft: sb.Draft, inputs: dict[str, torch.Tensor], options: dict, budget: int | None, case: str
) -> None:
    asked: dict[str, Any] = {"do_sample": False, "return_dict_in_generate": True, "output_scores": True, **options}
    expected: Any = target.generate(**inputs, **asked)  # type: ignore[operator]
    lm = sb.SpeculativeLM(target, draft, budget)
    dropped: Any = lm.generate(**inputs, **asked)
    assert type(expected) is type(dropped), case
    assert torch.equal(expected.sequences, dropped.sequences), case
    for name in ("scores", "sequences_scores", "beam_indices"):
        theirs, ours = getattr(expected, name, None), getattr(dropped, name, None)
        assert (theirs is None) == (ours is None), f"{name}, {case}"
        for a, b in zip(theirs if theirs is not None else (), ours if ours is not None else (), strict=True):
            assert torch.equal(a, b), f"{name}, {case}"
    assert lm.stats is not None and lm.stats.target_passes <= lm.stats.steps, case

    beams = "num_beams" in options
    pair = fake_pair(target, draft, LETTERS)
    plain, speculative = (sb.beam, sb.speculative_beam) if beams else (sb.greedy, sb.speculative)
    prompt, passes = inputs["input_ids"].shape[1], []
    for decoded in (plain(pair, inputs, **options), speculative(pair, inputs, num_assistant_tokens=budget, **options)):
        for i, sequence in enumerate(decoded.sequences):
            row = expected.sequences[i, prompt:].tolist()
            assert sequence == row[: len(sequence)], case
            if beams:
                origins = [origin for origin in expected.beam_indices[i].tolist() if origin >= 0]
                assert decoded.beam_indices is not None and decoded.beam_indices[i] == origins, case
                assert decoded.scores[i] == expected.sequences_scores[i].item(), case
            else:
                assert len(set(row[len(sequence) :])) <= 1, case  # nothing but padding is left out
        assert decoded.stats.target_passes <= decoded.stats.steps, case
        assert sum(steps * count for steps, count in decoded.stats.accepted.items()) == decoded.stats.steps, case
        passes.append(decoded.stats.target_passes)
    assert passes[1] <= passes[0], case


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
    assert saved[3] <= 120


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
            decoded = decode(fake_pair(target, draft, LETTERS), one, **options)
            alone += decoded.sequences
            scores += decoded.scores
        assert together.sequences == alone, f"case {seed}: {options}"
        assert together.scores == pytest.approx(scores, abs=1e-5), f"case {seed}: {options}"
