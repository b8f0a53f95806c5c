"""Training a draft: it lowers the loss, goes on where it stopped, and what it is measured by counts as a hand would."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import WORDS, chat_tokenizer, tiny_llama
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from specbeam.drafts.eagle_model import EagleModel
from specbeam.drafts.trained import new_draft
from specbeam.training import held_out_agreement, training
from specbeam.training.float32_steps import Float32Steps
from specbeam.training.held_out_agreement import agreement, greedy_answers
from specbeam.training.prompts_and_answers import write_shard
from specbeam.training.shards import Shards, frequent
from specbeam.training.standalone import StandaloneStudent, layers_of, standalone_agreement
from specbeam.training.training import FeatureStudent, Progress, train
from specbeam.training.unrolling import unroll

KEPT = torch.arange(0, len(WORDS), 2)


@pytest.fixture(scope="module")
def target() -> Any:
    return tiny_llama(torch.float32)


@pytest.fixture(scope="module")
def texts(target: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for shard in (0, 1):
        write_shard(target, chat_tokenizer(), folder, shard, rows=16, length=60)
    return folder


def whole(texts: Path) -> dict[str, torch.Tensor]:
    shard = load_file(texts / "00000.safetensors")
    return {**shard, "tokens": shard["tokens"].long()}


def loss(student: Any, texts: Path) -> list[float]:
    with torch.no_grad():
        return [float(one) for one in student.losses(whole(texts), 1.0, torch.Generator())]


def student_of(target: Any, seed: int = 0) -> FeatureStudent:
    return FeatureStudent(new_draft(target, KEPT, seed), begin=3)


def test_training_lowers_the_loss_at_every_depth(target, texts, tmp_path) -> None:
    student = student_of(target)
    before = loss(student, texts)
    progress = train(student, Shards(texts), tmp_path, minutes=1.0, positions=300)
    assert len(before) == student.depths == 4
    assert all(now < 0.9 * then for now, then in zip(loss(student, texts), before, strict=True))
    assert (progress.steps, progress.seconds) == (60, 60.0)
    assert [seconds for seconds, _ in progress.losses] == [10.0, 20.0, 30.0, 40.0, 50.0, 60.0]


def test_the_learning_rate_rises_over_fifty_steps_or_a_tenth_of_a_shorter_time_and_falls_in_the_second_half(
    target, texts, tmp_path, monkeypatch
) -> None:
    rates: list[float] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), step(self)))
    train(student_of(target), Shards(texts), tmp_path / "short", minutes=20 / 60, positions=60, learning_rate=0.5)
    assert rates[:6] == pytest.approx([0.01, 0.25, 0.5, 0.5, 0.5, 0.5]), "a step takes a second"
    assert rates[10:] == pytest.approx([0.5 * (20 - second) / 10 for second in range(10, 20)])
    rates.clear()

    def stopped_after_51() -> list[float]:
        if len(rates) > 50:
            raise KeyboardInterrupt
        return []

    more = {"positions": 10, "learning_rate": 0.5, "held_out": stopped_after_51, "every": 0.5}
    with pytest.raises(KeyboardInterrupt):
        train(student_of(target), Shards(texts), tmp_path / "long", minutes=20, **more)
    assert rates == pytest.approx([0.01 * step for step in range(1, 51)] + [0.5])


def test_muon_in_float32_takes_the_steps_of_muon_to_the_rounding_of_bfloat16() -> None:
    torch.manual_seed(0)
    shapes = [(8, 20), (20, 8), (12, 12)]
    theirs = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    ours = [torch.nn.Parameter(weight.detach().clone()) for weight in theirs]
    optimisers = [torch.optim.Muon(weights, lr=0.1, weight_decay=0.0) for weights in (theirs, ours)]
    slopes = [torch.randn(shape) for shape in shapes]
    for weights in (theirs, ours):
        for weight, slope in zip(weights, slopes, strict=True):
            weight.grad = slope.clone()
    before = [weight.detach().clone() for weight in theirs]
    optimisers[0].step()
    with Float32Steps():
        optimisers[1].step()
    for one, other, slope, then in zip(theirs, ours, slopes, before, strict=True):
        assert other.grad is not None and torch.equal(other.grad, slope), "the gradient is left as it was"
        moved = float((one - then).detach().abs().max())
        torch.testing.assert_close(other, one, rtol=0, atol=0.03 * moved)
        assert not torch.equal(one, other), "bfloat16 rounds, float32 does not"


def test_the_loss_is_the_cross_entropy_with_the_targets_own_distribution(target, texts) -> None:
    student, shard = student_of(target), whole(texts)
    row, end = shard["tokens"][:1, : int(shard["ends"][0])], int(shard["ends"][0])
    with torch.no_grad():
        truth = target(row).logits[0][:, KEPT].softmax(-1)
        said = student.model.logits(next(unroll(student.model, shard["features"][:1], shard["tokens"][:1], 1)))[0]
        wanted = -(truth[3:end] * said[2 : end - 1].log_softmax(-1)).sum(-1).mean()
    one = {name: column[:1] for name, column in shard.items()}
    found = student.losses(one, 1.0, torch.Generator())[0]
    assert float(found.detach()) == pytest.approx(float(wanted), rel=1e-4)


def test_a_checkpoint_is_gone_on_from(target, texts, tmp_path) -> None:
    first = train(student_of(target), Shards(texts), tmp_path, minutes=0.5, positions=300)
    assert (first.steps, first.seconds) == (30, 30.0)
    again = student_of(target, seed=1)
    untouched = train(again, Shards(texts), tmp_path, minutes=0.5, positions=300)  # no time left: just what was saved
    assert (untouched.steps, untouched.seconds, untouched.positions) == (30, 30.0, first.positions)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    assert all(torch.equal(weight, saved[name]) for name, weight in again.trained().items())
    further = train(again, Shards(texts), tmp_path, minutes=1.0, positions=300)
    assert (further.steps, further.seconds) == (60, 60.0)
    assert further.losses[:3] == first.losses
    assert further.positions > first.positions


def test_a_resumed_training_does_not_begin_with_the_same_batches_again(target, texts, tmp_path) -> None:
    def batches(minutes: float) -> list[list[int]]:
        shards, drawn = Shards(texts), []
        draw = shards.batch
        shards.batch = lambda positions: (drawn.append(draw(positions)), drawn[-1])[1]
        train(student_of(target), shards, tmp_path, minutes=minutes, positions=100)
        return [batch["tokens"][0].tolist() for batch in drawn]

    first, second = batches(0.2), batches(0.4)
    assert len(first) == len(second) == 12
    assert first != second


def test_a_checkpoint_is_left_now_and_then_with_agreement_measured_off_the_clock(target, texts, tmp_path) -> None:
    reported: list[int] = []
    progress = train(
        student_of(target),
        Shards(texts),
        tmp_path,
        minutes=1.0,
        positions=300,
        held_out=lambda: [0.5, 0.25],
        every=24.5,
        report=lambda progress: reported.append(progress.steps),
    )
    assert progress.agreements == [(25.0, [0.5, 0.25]), (50.0, [0.5, 0.25]), (60.0, [0.5, 0.25])]
    assert reported == [10, 20, 30, 40, 50, 60]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt"]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]
    assert Progress(**saved) == progress


def test_half_of_the_positions_are_judged_where_half_is_asked_for(texts) -> None:
    shard = whole(texts)
    place, every = training.judged(shard, 3, 1.0, torch.Generator())
    assert int(every.sum()) == int((shard["ends"] - 3).sum()) and int(place[0, 0]) == 1
    _, some = training.judged(shard, 3, 0.5, torch.Generator().manual_seed(0))
    assert not (some & ~every).any()
    assert 0.4 < float(some.sum() / every.sum()) < 0.6


def test_held_out_agreement_is_what_a_hand_counts(monkeypatch) -> None:
    """Two answers of two and one tokens; the draft keeps the tokens 10, 20, 30, 40 and ranks them as written here."""
    answers = {
        "tokens": torch.zeros(2, 5, dtype=torch.int32),
        "features": torch.zeros(2, 5, 1, 1),
        "begins": torch.tensor([2, 1]),
        "ends": torch.tensor([4, 2]),
        "likeliest": torch.tensor([[0, 0, 20, 99, 0], [0, 30, 0, 0, 0]]),  # nobody can propose 99
    }
    first, second = torch.full((2, 2, 4, 4), -1.0)
    first[0, 1] = torch.tensor([0.0, 3.0, 2.0, 1.0])  # row 1 is position 2: its likeliest is 20, as the target's
    first[0, 2] = torch.tensor([0.0, 3.0, 2.0, 1.0])
    first[1, 0] = torch.tensor([0.0, 3.0, 2.0, 1.0])  # 30 comes second
    second[0, 1] = torch.tensor([3.0, 0.0, 2.0, 1.0])  # 20 comes last
    monkeypatch.setattr(held_out_agreement, "unroll", lambda *_: iter([first, second]))
    model: Any = SimpleNamespace(kept=torch.tensor([10, 20, 30, 40]), logits=lambda output: output)
    found = agreement(model, answers, depths=2, top=(1, 2, 4))
    assert found[1] == pytest.approx([1 / 3, 0.0])
    assert found[2] == pytest.approx([2 / 3, 0.0])
    assert found[4] == pytest.approx([2 / 3, 1 / 2])  # at depth 2 the first position of a text has no guess before it


def test_agreement_over_answers_that_ended_at_once_is_none(target) -> None:
    answers = greedy_answers(target, [[1, 3, 5]], 4)
    answers["ends"] = answers["begins"]
    assert agreement(new_draft(target, KEPT), answers) == {1: [0.0] * 4, 4: [0.0] * 4}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_greedy_answers_are_those_of_generate_whatever_is_answered_together(dtype) -> None:
    target = tiny_llama(dtype)
    prompts = [[1, 3, 5, 9, 10], [1, 3, 5], [1, 3, 5, 20, 30]]
    found = greedy_answers(target, prompts, 12)
    assert found["begins"].tolist() == [3, 5, 5]
    order = [prompts[1], prompts[0], prompts[2]]
    for row, prompt in enumerate(order):
        begin, end = len(prompt), int(found["ends"][row])
        text = found["tokens"][row, :end].tolist()
        assert text[:begin] == prompt
        assert found["likeliest"][row, begin - 1 : end - 1].tolist() == text[begin:]
        wanted = target.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0].tolist()
        assert text == [token for token in wanted if token != 2]


def test_the_most_frequent_tokens_are_kept_in_order_with_those_that_must_be() -> None:
    counts = Counter({7: 5, 3: 4, 9: 4, 1: 1})
    assert frequent(counts, 3, 12).tolist() == [3, 7, 9]
    assert frequent(counts, 2, 12).tolist() == [3, 7]  # of equals, the smaller id
    assert frequent(counts, 3, 12, always=[2, 11]).tolist() == [2, 7, 11]
    assert frequent(counts, 6, 12).tolist() == [0, 1, 2, 3, 7, 9]


def test_shards_count_their_tokens_up_to_where_each_text_ends(texts) -> None:
    shards, counts = Shards(texts), Counter()
    for path in shards.paths():
        shard = load_file(path)
        for row, end in zip(shard["tokens"].tolist(), shard["ends"].tolist(), strict=True):
            counts.update(row[:end])
    assert shards.counts() == counts
    assert shards.positions() == counts.total()
    batch = shards.batch(100)
    assert batch["tokens"].dtype == torch.long and len(batch["tokens"]) == len(batch["ends"]) == len(batch["features"])


def test_unrolled_once_it_is_a_llama_layer_over_the_whole_text(target, texts) -> None:
    model, shard = new_draft(target, KEPT), whole(texts)
    layer = llama_layer(target, model)
    tokens = shard["tokens"][:, 1:]
    positions = torch.arange(1, shard["tokens"].shape[1])[None]
    with torch.no_grad():
        inputs = model.joined(model.fused(shard["features"][:, :-1]), tokens)
        turns = LlamaRotaryEmbedding(target.config)(inputs, positions)
        closed = torch.full((tokens.shape[1], tokens.shape[1]), -torch.inf).triu(1)[None, None]
        wanted = layer(inputs, attention_mask=closed, position_ids=positions, position_embeddings=turns)
        (got,) = unroll(model, shard["features"], shard["tokens"], 1)
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)


def llama_layer(target: Any, model: EagleModel) -> LlamaDecoderLayer:
    """transformers' own layer with the weights of a feature draft."""
    layer = LlamaDecoderLayer(target.config, 0).requires_grad_(False)
    heads, keys, dim = model.config.heads, model.config.key_heads, model.config.head_dim
    parts = model.qkv.weight.split([heads * dim, keys * dim, keys * dim])
    for place, weight in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
        getattr(layer.self_attn, place).weight.copy_(weight)
    layer.self_attn.o_proj.weight.copy_(model.out.weight)
    for place, weight in zip(("gate_proj", "up_proj"), model.gate_up.weight.chunk(2), strict=True):
        getattr(layer.mlp, place).weight.copy_(weight)
    layer.mlp.down_proj.weight.copy_(model.down.weight)
    return layer


def test_a_standalone_student_trains_its_layers_alone(target, texts, tmp_path) -> None:
    small = layers_of(target, [0, 2])
    before, theirs = copy.deepcopy(small.state_dict()), copy.deepcopy(target.state_dict())
    student = StandaloneStudent(small, KEPT, begin=3)
    assert student.trained() and all(name.startswith("model.layers.") for name in student.trained())
    untrained = loss(student, texts)
    train(student, Shards(texts), tmp_path, minutes=0.5, positions=300)
    assert loss(student, texts)[0] < untrained[0]
    for name, weight in small.state_dict().items():
        assert torch.equal(weight, before[name]) != (name in student.trained()), name
    assert all(torch.equal(weight, theirs[name]) for name, weight in target.state_dict().items())


def test_all_layers_of_a_target_say_what_it_says_and_fewer_say_less(target) -> None:
    ids = torch.tensor([[1, 3, 5, 9, 10, 11]])
    with torch.no_grad():
        torch.testing.assert_close(layers_of(target, [0, 1, 2])(ids).logits, target(ids).logits)
    answers = greedy_answers(target, [[1, 3, 5, 9], [1, 3, 5]], 16)
    assert standalone_agreement(layers_of(target, [0, 1, 2]), answers) == {1: 1.0, 4: 1.0}
    fewer = standalone_agreement(layers_of(target, [0]), answers)
    assert 0 <= fewer[1] <= fewer[4] < 1


def test_layers_that_a_target_does_not_have_are_refused(target) -> None:
    for layers in ([], [3], [-1]):
        with pytest.raises(ValueError, match="not among the 3"):
            layers_of(target, layers)
