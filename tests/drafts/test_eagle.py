"""EagleDraft: it says in a tree what its training unrolled over a text, and tokens stay the target's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eagle_target import IDS, KEPT, MASK, PROMPTS, tiny_target
from scoring import scorer_over

import specbeam as sb
from specbeam.core.draft import Proposal
from specbeam.core.tree import ROOT, TokenTree
from specbeam.drafts.eagle import EagleDraft
from specbeam.drafts.eagle_model import EagleConfig, EagleModel
from specbeam.drafts.logit_head import LogitHead
from specbeam.drafts.recall import NgramDraft, RecallDraft
from specbeam.drafts.union import UnionDraft
from specbeam.models.load import Pair
from specbeam.training.unrolling import unroll


def tiny_model(target: Any) -> EagleModel:
    torch.manual_seed(1)
    head = LogitHead.of(target, KEPT)
    model = EagleModel(EagleConfig.for_target(target), target.get_input_embeddings().weight.detach(), head, KEPT)
    return model.double().requires_grad_(False)


class Walk:
    """A draft that follows a target by hand."""

    def __init__(self):
        self.target = tiny_target()
        self.model = tiny_model(self.target)
        self.draft = EagleDraft(self.model, width=5)
        self.trees = [TokenTree(prompt) for prompt in PROMPTS]
        self.scorer, output = scorer_over(self.target, self.trees, IDS, MASK, self.draft.state_layers)
        self.draft.start(self.trees, IDS, MASK)
        assert output.states is not None
        self.draft.read_states(output.states, None)

    def score(self, nodes: list[list[int]]) -> None:
        states = self.scorer.score(nodes).states
        assert states is not None
        self.draft.read_states(states, nodes)

    def trained(self, b: int, node: int, depth: int) -> list[Proposal]:
        """What the unrolled training says of what follows `node`, `depth` - 1 of whose ancestors are guesses."""
        text = torch.tensor([PROMPTS[b] + self.trees[b].path(node)])
        with torch.no_grad():
            states = self.target(text, output_hidden_states=True).hidden_states
            states = torch.stack([states[layer] for layer in self.model.config.layers], 2)
            *_, output = unroll(self.model, states, text, depth)
            best = self.model.logits(output[0, -1]).log_softmax(-1).topk(5)
        return list(map(Proposal, KEPT[best.indices].tolist(), best.values.tolist()))


def assert_same(got: list[Proposal], wanted: list[Proposal]) -> None:
    assert [one.token for one in got] == [one.token for one in wanted]
    assert [one.log_prob for one in got] == pytest.approx([one.log_prob for one in wanted])


def chain(tree: TokenTree, node: int, tokens: list[int]) -> list[int]:
    nodes = []
    for token in tokens:
        node = tree.child(node, token)
        nodes.append(node)
    return nodes


def test_a_chain_of_guesses_is_read_as_training_unrolled_it() -> None:
    walk = Walk()
    chains = [chain(tree, ROOT, tokens) for tree, tokens in zip(walk.trees, ([20, 21, 22], [30, 31, 32]), strict=True)]
    for depth in range(3):
        answers = walk.draft.expand(walk.trees, [[nodes[depth]] for nodes in chains])
        for b, nodes in enumerate(chains):
            assert_same(answers[b][0], walk.trained(b, nodes[depth], depth + 1))


def test_branches_do_not_see_each_other() -> None:
    walk = Walk()
    left, right = (chain(walk.trees[0], ROOT, tokens) for tokens in ([20, 21], [40, 41]))
    walk.draft.expand(walk.trees, [[left[0], right[0]], []])
    answers = walk.draft.expand(walk.trees, [[left[1], right[1]], []])
    assert_same(answers[0][0], walk.trained(0, left[1], 2))
    assert_same(answers[0][1], walk.trained(0, right[1], 2))


def test_once_the_target_has_spoken_its_states_replace_the_guesses() -> None:
    walk = Walk()
    nodes = chain(walk.trees[0], ROOT, [20, 21, 22, 23])
    for node in nodes[:3]:
        walk.draft.expand(walk.trees, [[node], []])
    walk.score([nodes[:2], []])
    walk.draft.follow(0, [nodes[2]])
    answers = walk.draft.expand(walk.trees, [[nodes[2]], []])
    assert_same(answers[0][0], walk.trained(0, nodes[2], 1))
    answers = walk.draft.expand(walk.trees, [[nodes[3]], []])
    assert_same(answers[0][0], walk.trained(0, nodes[3], 2))


def test_a_compacted_cache_says_the_same() -> None:
    walk = Walk()
    tree = walk.trees[0]
    dead = [tree.child(ROOT, token) for token in range(50, 90)]
    walk.draft.expand(walk.trees, [dead, []])
    nodes = chain(tree, ROOT, [20, 21, 22])
    walk.score([nodes[:2], []])
    walk.draft.follow(0, [nodes[2]])
    walk.draft.compact([[nodes[2]], [ROOT]])
    answers = walk.draft.expand(walk.trees, [[nodes[2]], []])
    assert_same(answers[0][0], walk.trained(0, nodes[2], 1))


def test_a_prompt_that_is_read_in_parts_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specbeam.engines.torch_engine.CHUNK", 2)
    walk = Walk()
    assert walk.scorer.passes == 1 and walk.scorer.engine.tokens == IDS.numel()
    nodes = [chain(tree, ROOT, [20, 21]) for tree in walk.trees]
    walk.score([some[:1] for some in nodes])
    answers = walk.draft.expand(walk.trees, [some[1:] for some in nodes])
    for b, some in enumerate(nodes):
        assert_same(answers[b][0], walk.trained(b, some[1], 1))


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("beams", [1, 4])
def test_tokens_are_those_of_generate(together: bool, batch: int, beams: int) -> None:
    target = tiny_target()
    draft: Any = EagleDraft(tiny_model(target))
    if together:
        draft = UnionDraft([RecallDraft(), draft, NgramDraft()])
    inputs = {"input_ids": IDS[:batch], "attention_mask": MASK[:batch]}
    wanted = target.generate(**inputs, max_new_tokens=24, num_beams=beams, do_sample=False)
    lm = sb.SpeculativeLM(target, draft)
    got = lm.generate(**inputs, max_new_tokens=24, num_beams=beams, do_sample=False, num_assistant_tokens=12)
    assert got.tolist() == wanted.tolist()
    assert lm.stats is not None and lm.stats.draft_passes > 0


def test_sampling_among_one_token_gives_what_greedy_decoding_gives() -> None:
    target = tiny_target()
    pair = Pair(target, EagleDraft(tiny_model(target)), None)
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    sampled = sb.speculative(pair, inputs, max_new_tokens=12, do_sample=True, top_k=1)
    assert sampled.sequences == sb.greedy(pair, inputs, max_new_tokens=12).sequences
    assert sampled.stats.drafted > 0


def test_a_prompt_of_one_token_is_served() -> None:
    target = tiny_target()
    pair = Pair(target, EagleDraft(tiny_model(target)), None)
    inputs = {"input_ids": torch.tensor([[7]]), "attention_mask": torch.tensor([[1]])}
    wanted = target.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert sb.speculative(pair, inputs, max_new_tokens=8).sequences[0] == wanted[0, 1:].tolist()
