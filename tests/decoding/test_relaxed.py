"""The inexact options: exact at their exact values, faster otherwise, and always labelled."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from fakes import HashLM, fake_pair, hash_lm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import specbeam as sb
from specbeam.core.draft import Draft, Proposal
from specbeam.core.stats import Stats
from specbeam.core.tree import ROOT, TokenTree, TopTokens
from specbeam.decoding.relaxed import RelaxedPick, droppable_rows

VOCABULARY = 24
PROMPTS = [[3, 1, 4, 1, 5], [9, 2, 6]]


def left_padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    return {
        "input_ids": torch.tensor([[0] * (width - len(p)) + p for p in prompts]),
        "attention_mask": torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]),
    }


class Second(Draft):
    """Proposes the token that the target finds second best; it asks the target itself."""

    def __init__(self, target: HashLM):
        self.target = target

    def propose(self, tree: TokenTree, node: int) -> list[Proposal]:
        ids = torch.tensor([tree.prompt + tree.path(node)])
        best = self.target(ids).logits[0, -1].float().log_softmax(-1).topk(2)
        return [Proposal(int(best.indices[1]), float(best.values[1]))]


def tree_of(row: list[float], scored: list[int]) -> tuple[TokenTree, list[int]]:
    """A root whose next-token logits are `row`, with children of which the `scored` ones are verified."""
    tree, logits = TokenTree([1]), torch.tensor(row)
    log_probs = logits.log_softmax(-1)
    order = log_probs.argsort(descending=True)
    tree.record(ROOT, logits, float(logits.logsumexp(-1)), TopTokens(order.tolist(), log_probs[order].tolist()))
    children = [tree.child(ROOT, token) for token in range(len(row))]
    for token in scored:
        tree.record(children[token], logits, float(logits.logsumexp(-1)), tree.top[ROOT])  # type: ignore[arg-type]
    return tree, children


def picked(
    row: list[float], scored: list[int], tolerance: float = 0.0, top_r: int = 1, stop: tuple[int, ...] = ()
) -> int:
    tree, _ = tree_of(row, scored)
    return int(RelaxedPick(tolerance, top_r, stop, Stats())(torch.tensor([row]), [tree], [ROOT]))


def test_a_verified_token_within_the_tolerance_stands_in_for_the_best() -> None:
    assert picked([2.0, 1.5, 0.0], scored=[1], tolerance=0.6) == 1
    assert picked([2.0, 1.5, 0.0], scored=[1], tolerance=0.4) == 0
    assert picked([2.0, 1.5, 1.4], scored=[1, 2], tolerance=1.0) == 1


def test_a_verified_token_among_the_top_r_stands_in_however_unlikely() -> None:
    assert picked([9.0, 0.0, -5.0], scored=[1], top_r=2) == 1
    assert picked([9.0, 0.0, -5.0], scored=[2], top_r=2) == 0
    assert picked([9.0, -math.inf, -math.inf], scored=[1], top_r=2) == 0


def test_the_best_token_is_taken_where_it_is_verified_or_ends_the_sequence() -> None:
    assert picked([2.0, 1.9, 0.0], scored=[0, 1], tolerance=1.0) == 0
    assert picked([2.0, 1.9, 0.0], scored=[1], tolerance=1.0, stop=(0,)) == 0
    assert picked([2.0, 1.9, 0.0], scored=[], tolerance=1.0) == 0


def test_weak_rows_are_done_without_and_strong_ones_are_not() -> None:
    tree, children = tree_of([0.0, 0.0, 0.0], scored=[0])  # every continuation costs log 3 = 1.1 nats
    options: dict[str, Any] = {"margin": 0.0, "num_beams": 2, "stop_tokens": ()}
    nodes = children[:2]
    assert droppable_rows(tree, nodes, [-1.0, -1.5], **options) == [1]  # to end at -2.6, where two others end at -2.1
    assert droppable_rows(tree, nodes, [-1.0, -1.5], **{**options, "margin": 0.6}) is None
    assert droppable_rows(tree, nodes, [-1.0, -1.5], **{**options, "margin": 0.4}) == [1]
    assert droppable_rows(tree, nodes, [-1.0, -0.9], **options) is None
    assert droppable_rows(tree, nodes, [-1.0, -0.9], **{**options, "margin": -0.2}) == [1]
    assert droppable_rows(tree, [children[0]] * 2, [-1.0, -9.0], **options) == []
    assert droppable_rows(tree, [children[1]] * 2, [-1.0, -9.0], **options) is None
    assert droppable_rows(tree, nodes, [-1.0, -9.0], **{**options, "num_beams": 4}) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_exact_values_give_the_exact_result(salt: int, new: int) -> None:
    pair = fake_pair(hash_lm(VOCABULARY, salt), Second(hash_lm(VOCABULARY, salt)))
    inputs = left_padded(PROMPTS)
    exact = sb.speculative(pair, inputs, max_new_tokens=new)
    assert sb.speculative(pair, inputs, max_new_tokens=new, tolerance=0.0, top_r=1).sequences == exact.sequences
    beams = sb.beam(pair, inputs, num_beams=3, max_new_tokens=new)
    unbounded = sb.speculative_beam(pair, inputs, num_beams=3, max_new_tokens=new, margin=math.inf)
    assert (unbounded.sequences, unbounded.scores) == (beams.sequences, beams.scores)
    assert exact.exact and unbounded.exact and not unbounded.stats.relaxed_steps


def test_relaxed_acceptance_keeps_second_choices_saves_passes_and_says_so() -> None:
    pair = fake_pair(hash_lm(VOCABULARY, 5), Second(hash_lm(VOCABULARY, 5)))
    options: dict[str, Any] = {"max_new_tokens": 24, "num_assistant_tokens": 6}
    exact = sb.speculative(pair, left_padded(PROMPTS[:1]), **options)
    loose = sb.speculative(pair, left_padded(PROMPTS[:1]), top_r=2, **options)
    assert loose.stats.target_passes < exact.stats.target_passes
    assert loose.sequences != exact.sequences and loose.scores[0] < exact.scores[0]
    assert not loose.exact and loose.stats.relaxed_steps > 5


def test_a_narrower_search_saves_passes_and_its_result_is_a_real_sequence_with_its_real_score() -> None:
    target = hash_lm(VOCABULARY, 7)
    pair = fake_pair(target, sb.RecallDraft())
    inputs = left_padded(PROMPTS[:1])
    options: Any = {"num_beams": 4, "max_new_tokens": 20, "length_penalty": 0.0, "num_assistant_tokens": 12}
    exact = sb.speculative_beam(pair, inputs, **options)
    loose = sb.speculative_beam(pair, inputs, **options, margin=-20.0)
    assert loose.stats.target_passes < exact.stats.target_passes
    assert loose.stats.relaxed_steps and not loose.exact
    tokens = loose.sequences[0]
    log_probs = target(torch.tensor([PROMPTS[0] + tokens])).logits[0].float().log_softmax(-1)
    real = sum(float(log_probs[len(PROMPTS[0]) - 1 + i, token]) for i, token in enumerate(tokens))
    assert loose.scores[0] == pytest.approx(real, abs=1e-3)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        (sb.speculative, {"tolerance": -1.0}, "tolerance must be a number of nats"),
        (sb.speculative, {"tolerance": math.inf}, "tolerance must be a number of nats"),
        (sb.speculative, {"top_r": 0}, "top_r must be a whole number"),
        (sb.speculative, {"top_r": 2, "do_sample": True}, "leave them out with do_sample"),
        (sb.speculative_beam, {"margin": math.nan}, "margin must be a number of nats"),
        (sb.speculative_beam, {"margin": "1"}, "margin must be a number of nats"),
    ],
)
def test_senseless_values_are_refused_by_name(method, options, words) -> None:
    with pytest.raises(ValueError, match=words):
        method(fake_pair(hash_lm(VOCABULARY, 1), sb.NoDraft()), left_padded(PROMPTS), **options)
