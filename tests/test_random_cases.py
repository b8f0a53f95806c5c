"""Bitwise equality with transformers on a fake model, over random options, prompts and drafts."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from hash_model import HashLM, hash_lm

import specbeam as sb
from specbeam.models import Pair
from specbeam.tree import TokenTree

CASES = 2400
CHUNK = 300


class RandomDraft(sb.Draft):
    def __init__(self, vocabulary: int, randomness: random.Random):
        self.vocabulary, self.randomness = vocabulary, randomness

    def propose(self, tree: TokenTree, node: int) -> list[sb.Proposal]:
        return [sb.Proposal(self.randomness.randrange(self.vocabulary), -3 * self.randomness.random()) for _ in "abc"]


class Oracle(sb.Draft):
    """Proposes what the target itself finds likeliest."""

    sign = 1.0

    def __init__(self, target: HashLM):
        self.target = target

    def propose(self, tree: TokenTree, node: int) -> list[sb.Proposal]:
        ids = torch.tensor([tree.prompt + tree.path(node)])
        likely = (self.sign * self.target(ids).logits[0, -1].float()).log_softmax(-1).topk(8)
        return [sb.Proposal(*pair) for pair in zip(likely.indices.tolist(), likely.values.tolist(), strict=True)]


class Liar(Oracle):
    """Proposes what the target finds least likely."""

    sign = -1.0


def any_draft(randomness: random.Random, target: HashLM, vocabulary: int, seed: int) -> sb.Draft:
    return randomness.choice(
        [
            sb.NoDraft(),
            RandomDraft(vocabulary, randomness),
            Oracle(target),
            Liar(target),
            sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()]),
            sb.ModelDraft(hash_lm(vocabulary, seed + randomness.randint(0, 1))),
        ]
    )


def left_padded(randomness: random.Random, vocabulary: int) -> dict[str, torch.Tensor]:
    lengths = [randomness.randint(1, 9) for _ in range(randomness.randint(1, 3))]
    ids = torch.zeros(len(lengths), max(lengths), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for b, length in enumerate(lengths):
        ids[b, -length:] = torch.tensor([randomness.randrange(vocabulary) for _ in range(length)])
        mask[b, -length:] = 1
    return {"input_ids": ids, "attention_mask": mask}


def options_of(randomness: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {"max_new_tokens": randomness.randint(1, 12)}
    if randomness.random() < 0.3:
        options["repetition_penalty"] = 1.3
    if randomness.random() < 0.2:
        options["no_repeat_ngram_size"] = 2
    if randomness.random() < 0.2:
        options["min_new_tokens"] = 2
    beams = randomness.choice([1, 1, 2, 3, 4, 5, 6])
    if beams > 1:
        options |= {
            "num_beams": beams,
            "num_return_sequences": randomness.randint(1, beams),
            "length_penalty": randomness.choice([-1.0, 0.0, 0.5, 1.0, 2.0]),
            "early_stopping": randomness.choice([True, False, "never"]),
        }
    return options


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_every_decoder_and_the_drop_in_give_the_tokens_scores_and_origins_of_generate(first: int) -> None:
    for seed in range(first, first + CHUNK):
        randomness = random.Random(seed)
        vocabulary = randomness.randint(30, 60)
        eos = randomness.sample(range(vocabulary), randomness.randint(1, 3))
        target = hash_lm(vocabulary, seed, eos, randomness.choice([eos[0], 0, 5]))
        draft = any_draft(randomness, target, vocabulary, seed)
        inputs, options = left_padded(randomness, vocabulary), options_of(randomness)
        budget = randomness.choice([None, 0, 1, 5, 30])
        check(target, draft, inputs, options, budget, f"case {seed}: {type(draft).__name__} {budget} {options}")


def check(
    target: HashLM, draft: sb.Draft, inputs: dict[str, torch.Tensor], options: dict, budget: int | None, case: str
) -> None:
    pair = Pair(target=target, draft=draft, tokenizer=None, name="fake", revisions={})  # type: ignore[arg-type]
    asked: dict[str, Any] = {"do_sample": False, "return_dict_in_generate": True, "output_scores": True, **options}
    expected: Any = target.generate(**inputs, **asked)  # type: ignore[operator]
    dropped: Any = sb.SpeculativeLM(target, draft, budget).generate(**inputs, **asked)
    assert torch.equal(expected.sequences, dropped.sequences), case
    for name in ("scores", "sequences_scores", "beam_indices"):
        theirs, ours = getattr(expected, name, None), getattr(dropped, name, None)
        for a, b in zip(theirs if theirs is not None else (), ours if ours is not None else (), strict=True):
            assert torch.equal(a, b), f"{name}, {case}"

    beams = "num_beams" in options
    plain, speculative = (sb.beam, sb.speculative_beam) if beams else (sb.greedy, sb.speculative)
    prompt = inputs["input_ids"].shape[1]
    for decoded in (
        plain(pair, inputs, **options),
        speculative(pair, inputs, num_assistant_tokens=budget, **options),
    ):
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


def test_sampling_through_the_drop_in_draws_what_the_target_draws_under_the_same_seed() -> None:
    for seed in range(60):
        randomness = random.Random(seed)
        vocabulary = randomness.randint(30, 60)
        target = hash_lm(vocabulary, seed, [1, 2], 1)
        draft = any_draft(randomness, target, vocabulary, seed)
        inputs = left_padded(randomness, vocabulary)
        shape = randomness.choice([{}, {"num_return_sequences": 3}, {"num_beams": 3}, {"num_beams": 2}])
        options: Any = {**inputs, **shape, "do_sample": True, "max_new_tokens": 9, "temperature": 0.8, "top_k": 0}
        torch.manual_seed(seed)
        expected = target.generate(**options)  # type: ignore[operator]
        torch.manual_seed(seed)
        assert torch.equal(expected, sb.SpeculativeLM(target, draft).generate(**options)), f"case {seed}"


def test_speculative_sampling_follows_the_targets_distribution() -> None:
    target = hash_lm(12, 3, [11], 11)
    inputs = {"input_ids": torch.tensor([[4, 2]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
    pair = Pair(target=target, draft=sb.ModelDraft(hash_lm(12, 4)), tokenizer=None, name="fake", revisions={})  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    draws = 3000
    many = {name: value.expand(100, -1) for name, value in inputs.items()}
    firsts, pairs = torch.zeros(12), torch.zeros(12, 12)
    for _ in range(draws // 100):
        decoded = sb.speculative(
            pair, many, do_sample=True, top_k=0, max_new_tokens=2, num_assistant_tokens=3, generator=generator
        )
        for sequence in decoded.sequences:
            firsts[sequence[0]] += 1
            if len(sequence) > 1:
                pairs[sequence[0], sequence[1]] += 1
    p = target(inputs["input_ids"]).logits[0, -1].float().softmax(-1)
    assert chi_square(firsts, p) < 31.3  # 11 degrees of freedom, 0.999
    likely = int(firsts[:11].argmax())
    q = target(torch.tensor([[4, 2, likely]])).logits[0, -1].float().softmax(-1)
    assert chi_square(pairs[likely], q) < 31.3


def chi_square(counts: torch.Tensor, probs: torch.Tensor) -> float:
    expected = probs * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_new_tokens": 0}, "max_new_tokens"),
    ({"num_beams": 0}, "num_beams"),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3"),
    ({"max_new_tokens": 5000}, "positions"),
    ({"num_assistant_tokens": -1}, "num_assistant_tokens"),
    ({"max_new_tokns": 3}, "max_new_tokns"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    pair = Pair(target=hash_lm(), draft=sb.NoDraft(), tokenizer=None, name="fake", revisions={})  # type: ignore[arg-type]
    inputs = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.tensor([[1, 1]])}
    with pytest.raises(ValueError, match=message):
        sb.speculative_beam(pair, inputs, **options)


def test_an_empty_prompt_is_refused() -> None:
    pair = Pair(target=hash_lm(), draft=sb.NoDraft(), tokenizer=None, name="fake", revisions={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="prompt is empty"):
        sb.greedy(pair, {"input_ids": torch.zeros(1, 0, dtype=torch.long)})


def test_logits_that_are_nan_are_reported_with_a_remedy() -> None:
    target = hash_lm()
    plain = target.forward
    target.forward = lambda *a, **k: _spoiled(plain(*a, **k))  # type: ignore[method-assign]
    pair = Pair(target=target, draft=sb.NoDraft(), tokenizer=None, name="fake", revisions={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="NaN"):
        sb.greedy(pair, {"input_ids": torch.tensor([[1, 2]])})


def _spoiled(output: Any) -> Any:
    output.logits = output.logits * torch.nan
    return output
