"""Sampling: the drop-in's draws are the target's own, and the rejection rule keeps the target's distribution."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from fakes import every_draft, fake_pair, hash_lm, left_padded

import specbeam as sb
from specbeam.core.sampling import accept_or_replace


def test_sampling_through_the_drop_in_draws_what_the_target_draws_under_the_same_seed() -> None:
    for seed in range(60):
        randomness = random.Random(seed)
        vocabulary = randomness.randint(30, 60)
        target = hash_lm(vocabulary, seed, [1, 2], 1)
        draft = randomness.choice(every_draft(randomness, target, vocabulary))
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
    pair = fake_pair(target, sb.ModelDraft(hash_lm(12, 4)))
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


def test_a_drafted_token_is_kept_with_probability_p_over_q_and_else_replaced_from_the_residue() -> None:
    p, q = torch.tensor([0.5, 0.2, 0.3, 0.0]), torch.tensor([0.25, 0.5, 0.05, 0.2])
    generator = torch.Generator().manual_seed(0)
    draws = 4000
    for token, expected in enumerate((1.0, 0.4, 1.0, 0.0)):
        judged = [accept_or_replace(p, q, token, generator) for _ in range(draws)]
        kept = sum(accepted for accepted, _ in judged) / draws
        assert kept == pytest.approx(expected, abs=0.03 if 0 < expected < 1 else 0)
        assert all(stands == token for accepted, stands in judged if accepted)
        replaced = [stands for accepted, stands in judged if not accepted]
        assert set(replaced) <= {0, 2}  # where p > q: the residue is 0.25 and 0.25
        if replaced:
            assert replaced.count(0) / len(replaced) == pytest.approx(0.5, abs=0.04)


def test_a_draft_with_the_targets_own_distribution_is_never_refused() -> None:
    p = torch.tensor([0.1, 0.2, 0.7])
    generator = torch.Generator().manual_seed(1)
    assert all(accept_or_replace(p, p.clone(), t, generator) == (True, t) for t in (0, 1, 2) for _ in range(200))


def test_the_chains_of_a_batch_are_drafted_together() -> None:
    """A level of all prompts is one pass of the draft model, however many prompts there are."""
    ids = torch.tensor([[seed, 2, 5] for seed in range(8)])
    pair = fake_pair(hash_lm(24, 1), sb.ModelDraft(hash_lm(24, 1)))
    generator = torch.Generator().manual_seed(0)
    options = {"do_sample": True, "generator": generator, "num_assistant_tokens": 4, "max_new_tokens": 20}
    stats = sb.speculative(pair, {"input_ids": ids}, **options).stats
    assert stats.drafted > 4 * stats.target_passes
    assert stats.draft_passes <= 1 + 4 * (stats.target_passes - 1)
