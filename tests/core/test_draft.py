"""Drafts: what they propose, and what is never drafted."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from fakes import every_draft, fake_pair, hash_lm

import specbeam as sb
from specbeam.core.tree import ROOT, TokenTree, TopTokens


def begin(draft: sb.Draft, prompt: list[int]) -> TokenTree:
    tree = TokenTree(prompt)
    draft.start([tree], torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.long))
    return tree


def test_ngram_lookup_finds_what_followed_the_same_tokens_in_the_prompt_and_in_the_text_so_far() -> None:
    draft = sb.NgramDraft()
    tree = begin(draft, [1, 2, 3, 9, 1, 2])
    assert [p.token for p in draft.propose(tree, ROOT)] == [3]
    node = ROOT
    for token in (7, 8, 7):
        node = tree.child(node, token)
    assert draft.propose(tree, node) == []
    draft.follow(0, [node])
    assert [p.token for p in draft.propose(tree, node)] == [8]


def test_recall_proposes_what_the_target_said_at_a_sibling_with_the_same_last_token() -> None:
    draft = sb.RecallDraft()
    tree = begin(draft, [1, 2])
    left = tree.child(tree.child(ROOT, 3), 5)
    right = tree.child(tree.child(ROOT, 4), 5)
    assert draft.propose(tree, right) == []
    verdict = TopTokens([6, 7], [-0.1, -2.0])
    tree.record(left, torch.zeros(8), 2.0, verdict)
    draft.observe(0, [left])
    assert [p.token for p in draft.propose(tree, right)] == [6, 7]
    assert all(p.log_prob < said for p, said in zip(draft.propose(tree, right), verdict.log_probs, strict=True))


def test_a_union_merges_proposals_and_keeps_the_higher_log_probability() -> None:
    class Fixed(sb.Draft):
        def __init__(self, *pairs: tuple[int, float]):
            self.pairs = pairs

        def propose(self, tree: TokenTree, node: int) -> list[sb.Proposal]:
            return [sb.Proposal(*pair) for pair in self.pairs]

    union = sb.UnionDraft([Fixed((1, -1.0), (2, -3.0)), Fixed((2, -0.5))])
    tree = begin(union, [0])
    assert union.expand([tree], [[ROOT]]) == [[[sb.Proposal(2, -0.5), sb.Proposal(1, -1.0)]]]


def test_a_model_draft_proposes_the_draft_models_likeliest_tokens() -> None:
    model = hash_lm(24, 9)
    draft = sb.ModelDraft(model, width=3)
    tree = begin(draft, [4, 5])
    node = tree.child(tree.child(ROOT, 1), 2)
    with torch.no_grad():
        expected = model(torch.tensor([[4, 5, 1, 2]])).logits[0, -1].log_softmax(-1).topk(3).values.tolist()
    assert [p.log_prob for p in draft.expand([tree], [[node]])[0][0]] == pytest.approx(expected)


def test_a_sampling_draft_leaves_the_global_random_state_alone() -> None:
    draft = sb.ModelDraft(hash_lm(), temperature=1.0, top_k=2)
    before = torch.get_rng_state()
    tree = begin(draft, [4, 5])
    assert len(draft.expand([tree], [[ROOT]])[0][0]) >= 2
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("kind", range(7))
def test_nothing_is_drafted_beyond_an_end_of_sequence_or_max_new_tokens(kind: int, beams: int) -> None:
    decode = sb.speculative if beams == 1 else sb.speculative_beam
    for seed in range(8):
        target = hash_lm(20, seed, [1, 2])
        draft = every_draft(random.Random(seed), target, 20)[kind]
        inputs = {"input_ids": torch.tensor([[3, 4, 5]])}
        decoded = decode(fake_pair(target, draft), inputs, num_beams=beams, max_new_tokens=6, trace=True)
        assert decoded.trace is not None
        nodes = decoded.trace[0].nodes
        verified = [node for node in nodes if node.drafted is not None]
        assert all(node.depth < 6 and node.token not in (1, 2) for node in verified)


def test_options_of_drafts_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: sb.NgramDraft(0),
        lambda: sb.RecallDraft(0),
        lambda: sb.UnionDraft([]),
        lambda: sb.ModelDraft(hash_lm(), width=0),
        lambda: sb.ModelDraft(hash_lm(), temperature=0.0),
    ):
        with pytest.raises(ValueError, match=r"at least|positive"):
            make()
    with pytest.raises(NotImplementedError, match="propose"):
        sb.Draft().propose(TokenTree([1]), ROOT)


class Beyond(sb.Draft):
    """Proposes ids that the target has no logit for, as a draft with a padded vocabulary may."""

    def propose(self, tree: TokenTree, node: int) -> list[sb.Proposal]:
        return [sb.Proposal(10_000, -0.1), sb.Proposal(-1, -0.2), sb.Proposal(3, -0.3)]


@pytest.mark.parametrize("options", [{}, {"do_sample": True}])
def test_tokens_that_the_target_does_not_have_are_never_verified(options: dict[str, Any]) -> None:
    target = hash_lm(24, 2)
    inputs = {"input_ids": torch.tensor([[1, 2, 3]])}
    decoded = sb.speculative(fake_pair(target, Beyond()), inputs, max_new_tokens=6, **options)
    assert all(0 <= token < 24 for token in decoded.sequences[0])
    if not options:
        assert decoded.sequences == sb.greedy(fake_pair(target), inputs, max_new_tokens=6).sequences


def test_a_draft_model_is_not_run_for_a_budget_of_zero() -> None:
    target = hash_lm(24, 2)
    pair = fake_pair(target, sb.ModelDraft(hash_lm(24, 3)))
    decoded = sb.speculative(pair, {"input_ids": torch.tensor([[1, 2]])}, max_new_tokens=4, num_assistant_tokens=0)
    assert decoded.stats.draft_passes == 0


def test_a_draft_model_keeps_the_slots_of_a_prompt_that_waits_for_the_others() -> None:
    target = hash_lm(24, 5)
    draft = sb.ModelDraft(hash_lm(24, 6))
    inputs = {"input_ids": torch.tensor([[1, 2], [3, 4], [5, 6]])}
    dropped = []
    plain = draft.compact

    def watch(running: list[list[int]]) -> None:
        dropped.append(any(not nodes for nodes in running))
        plain(running)

    draft.compact = watch  # type: ignore[method-assign]
    sb.speculative(fake_pair(target, draft), inputs, max_new_tokens=40, num_assistant_tokens=12)
    assert dropped and not any(dropped)
