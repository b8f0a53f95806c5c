"""Sources: what passes hold, and that prompts of a batch share them without changing each other's results."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from fakes import HashLM, Liar, Oracle, every_draft, fake_pair, hash_lm
from sparse import mostly_slow
from tiny_models import tiny_llama

import specbeam as sb
from specbeam.core.expand import DraftSize
from specbeam.core.scorer import Request
from specbeam.drafts.eagle import EagleDraft
from specbeam.drafts.eagle_model import EagleConfig, EagleModel
from specbeam.drafts.logit_head import LogitHead
from specbeam.drafts.union import guarded
from specbeam.engines.target import Target

METHODS = [("greedy", 1), ("speculative", 1), ("beam", 3), ("speculative_beam", 3)]


def batch_of(randomness: random.Random, prompts: int, vocabulary: int) -> dict[str, torch.Tensor]:
    lengths = [randomness.randint(1, 12) for _ in range(prompts)]
    ids, mask = torch.zeros(2, prompts, max(lengths), dtype=torch.long)
    for b, length in enumerate(lengths):
        ids[b, -length:] = torch.tensor([randomness.randrange(vocabulary) for _ in range(length)])
        mask[b, -length:] = 1
    return {"input_ids": ids, "attention_mask": mask}


def one_by_one(inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    pairs = zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
    return [{"input_ids": ids[mask.bool()][None]} for ids, mask in pairs]


class Watched(HashLM):
    """Notes the shape of every pass."""

    def forward(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        self.__dict__.setdefault("shapes", []).append(tuple(input_ids.shape))
        return super().forward(input_ids, *args, **kwargs)


def watched(vocabulary: int, salt: int, eos: list[int] | None) -> Any:
    model: Any = hash_lm(vocabulary, salt, eos, 0)
    model.__class__ = Watched
    model.config.levels = 49_999  # which of two equal scores comes first may depend on the company
    Target.of(model).probe()  # tries it, as nobody knows this class
    model.shapes.clear()
    return model


@pytest.mark.parametrize(("method", "beams"), METHODS)
@pytest.mark.parametrize("prompts", mostly_slow([1, 2, 5, 8, 16, 32], lambda prompts: prompts in (1, 5, 16)))
def test_a_batch_gives_every_prompt_what_it_gets_alone(prompts: int, method: str, beams: int) -> None:
    """Half of the vocabulary ends a sequence, so that prompts finish early, one by one."""
    for seed in range(4):
        randomness = random.Random(1000 * prompts + seed)
        model = watched(20, seed, randomness.sample(range(20), randomness.choice([2, 6])))
        drafts = every_draft(randomness, model, 20)
        draft = randomness.choice(drafts[1:]) if prompts <= 8 else drafts[4]  # oracles are slow
        options: dict[str, Any] = {"max_new_tokens": 14}
        if beams > 1:
            options |= {"num_beams": beams, "num_return_sequences": 2, "length_penalty": randomness.choice([0.0, 1.0])}
            options |= {"early_stopping": randomness.choice([True, False])}
        if method.startswith("spec"):
            options |= {"num_assistant_tokens": randomness.choice([None, 6])}
        inputs = batch_of(randomness, prompts, 20)
        pair, decode = fake_pair(model, draft), sb.METHODS[method]
        together = decode(pair, inputs, **options)
        alone = [decode(pair, each, **options) for each in one_by_one(inputs)]
        assert together.sequences == [found for each in alone for found in each.sequences], f"{seed} {type(draft)}"
        assert together.scores == pytest.approx([score for each in alone for score in each.scores], abs=1e-5)
        assert together.stats.steps == max(each.stats.steps for each in alone)


@pytest.mark.parametrize(("method", "beams"), METHODS)
def test_a_batch_of_a_transformer_in_float64_gives_what_each_prompt_gets_alone(method: str, beams: int) -> None:
    model = tiny_llama()
    inputs = batch_of(random.Random(3), 7, model.config.vocab_size)
    options: dict[str, Any] = {"max_new_tokens": 16, "eos_token_id": list(range(2, 9)), "num_beams": beams}
    kept = torch.arange(0, model.config.vocab_size, 2)
    embedding = model.get_input_embeddings().weight.detach()
    feature = EagleModel(EagleConfig.for_target(model), embedding, LogitHead.of(model, kept), kept).double()
    lookups = sb.UnionDraft([sb.RecallDraft(), sb.NgramDraft()])
    for draft in (lookups, sb.ModelDraft(tiny_llama(layers=1)), EagleDraft(feature.requires_grad_(False))):
        pair, decode = fake_pair(model, draft), sb.METHODS[method]
        together = decode(pair, inputs, **options)
        assert together.sequences == [decode(pair, each, **options).sequences[0] for each in one_by_one(inputs)]
        assert len({len(sequence) for sequence in together.sequences}) > 1


@pytest.mark.parametrize(("method", "beams"), METHODS)
def test_a_finished_prompt_is_forwarded_no_more(method: str, beams: int) -> None:
    """Each prompt's row is in the passes up to the one that pays for its last step, and in none after it."""
    randomness = random.Random(1)
    model = watched(20, 4, [3, 5, 7])
    inputs = batch_of(randomness, 12, 20)
    options: dict[str, Any] = {
        "max_new_tokens": 30,
        **({"num_beams": beams, "early_stopping": True} if beams > 1 else {}),
        **({"num_assistant_tokens": 6} if method.startswith("speculative") else {}),
    }
    pair = fake_pair(model, sb.RecallDraft())
    steps = [sb.METHODS[method](pair, each, **options).stats.steps for each in one_by_one(inputs)]
    assert min(steps) < max(steps) - 4
    model.shapes.clear()
    decoded = sb.METHODS[method](pair, inputs, trace=True, **options)
    rows = [shape[0] for shape in model.shapes]
    assert decoded.trace is not None
    first_step = [one.first_step for one in max((t.rounds for t in decoded.trace), key=len)]
    assert rows == [sum(own > first for own in steps) for first in first_step]
    assert rows[0] == 12 and rows[-1] < 4
    assert decoded.stats.target_tokens == sum(a * b for a, b in model.shapes)


def test_the_slots_of_finished_prompts_are_given_back() -> None:
    model = watched(20, 4, [3, 5, 7])
    inputs = batch_of(random.Random(1), 12, 20)
    with Target.of(model).decoding(None, 4) as source:
        trees = source.start(Request(inputs["input_ids"], inputs["attention_mask"], max_new_tokens=20))
        source.logits([[0]] * 12)
        running = [[tree.child(0, 9)] if b % 3 == 0 else [] for b, tree in enumerate(trees)]
        source.logits(running)
        assert source.scorer.rows == [0, 3, 6, 9]
        assert {len(layer.keys) for layer in source.scorer.engine.cache.layers} == {4}  # type: ignore[attr-defined]


@pytest.mark.parametrize("beams", [1, 3])
def test_candidates_grow_for_every_prompt_and_no_pass_is_wider_for_it(beams: int) -> None:
    """A prompt that waits for others has room in the pass anyhow; without it the next pass comes a step later."""
    model = watched(20, 4, None)
    inputs = batch_of(random.Random(2), 6, 20)
    decode = sb.speculative if beams == 1 else sb.speculative_beam
    options: dict[str, Any] = {"max_new_tokens": 24, "num_assistant_tokens": 8}
    if beams > 1:
        options["num_beams"] = beams

    class Half(Oracle):
        """Knows what follows an even token."""

        def propose(self, tree: Any, node: int) -> Any:
            proposals = super().propose(tree, node)
            return proposals if tree.tokens[node] % 2 == 0 else proposals[6:]

    pair = fake_pair(model, Half(watched(20, 4, None)))
    together = decode(pair, inputs, **options)
    assert max(width for _, width in model.shapes[1:]) <= 8 + beams
    alone = [decode(pair, each, **options).stats.target_passes for each in one_by_one(inputs)]
    assert together.stats.target_passes <= max(alone) + 3 < 24


def test_an_automatic_budget_fills_the_width_that_another_prompt_makes() -> None:
    model = watched(20, 4, None)
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    with Target.of(model).decoding(guarded(Oracle(model))) as source:
        trees = source.start(Request(ids, torch.ones_like(ids), max_new_tokens=30, num_beams=3))
        source.logits([[0] * 3] * 2)
        many = [trees[0].child(0, token) for token in (11, 12, 13)]
        one = [trees[1].child(0, 14)] * 3
        source.logits([many, one])
        nodes = [len(slots) for slots in source.scorer._slots]
    assert nodes[0] == nodes[1] == model.shapes[-1][1] > 3


@pytest.mark.parametrize("draft", [Oracle, Liar])
def test_a_pass_scores_at_least_what_was_asked(draft: Any) -> None:
    model = watched(20, 4, None)
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    with Target.of(model).decoding(guarded(draft(model)), 5) as source:
        trees = source.start(Request(ids, torch.ones_like(ids), max_new_tokens=30, num_beams=2))
        running = [[0, 0], [0, 0]]
        for _ in range(12):
            logits = source.logits(running)
            assert all(tree.top[n] is not None for tree, nodes in zip(trees, running, strict=True) for n in nodes)
            best = logits.topk(2).indices.tolist()
            running = [
                [tree.child(nodes[0], rows[0][0]), tree.child(nodes[1], rows[1][1])]
                for tree, nodes, rows in zip(trees, running, best, strict=True)
            ]
    stats = source.stats
    assert stats.steps == 12 and stats.target_passes <= 12
    assert sum(steps * count for steps, count in stats.accepted.items()) == 12


def test_a_negative_number_of_drafted_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="num_assistant_tokens must not be negative, got -1"):
        DraftSize(-1)


class Remembering(Oracle):
    """Notes that it has been told of the end of its decode."""

    finished = 0

    def finish(self) -> None:
        self.finished += 1


@pytest.mark.parametrize("beams", [1, 3])
def test_a_draft_is_told_of_the_end_of_a_decode_that_was_abandoned(beams: int) -> None:
    model = watched(20, 4, None)
    draft, decode = Remembering(model), sb.speculative if beams == 1 else sb.speculative_beam
    inputs = {"input_ids": torch.tensor([[1, 2, 3]])}

    def interrupt(progress: Any) -> None:
        if progress.steps == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(fake_pair(model, draft), inputs, num_beams=beams, max_new_tokens=9, watch=interrupt)
    assert draft.finished == 1
    decode(fake_pair(model, draft), inputs, num_beams=beams, max_new_tokens=9)
    assert draft.finished == 2
