"""Likelihoods: against transformers' own losses and our searches' scores, with known answers and hostile input."""

import math
from types import SimpleNamespace

import pytest
import torch
from fakes import fake_pair, hash_lm
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import WORDS, chat_tokenizer, tiny_llama
from transformers import GPT2Config, GPT2LMHeadModel

import specbeam as sb
from specbeam.evaluation.intervals import bootstrap
from specbeam.evaluation.likelihood import (
    bits_per_byte,
    judge,
    length_penalised,
    likelihood,
    log_probs,
    perplexity,
    score_gaps,
)

ids = st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=7)


@pytest.fixture(scope="module")
def llama():
    return tiny_llama()


def tiny_gpt2(positions=32):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=positions, n_embd=16, n_layer=2, n_head=2, initializer_range=0.3)
    return GPT2LMHeadModel(config).double().eval().requires_grad_(False)


def by_hand(model, prompt, sequence):
    """One sequence alone, all logits, no padding."""
    logits = model(torch.tensor([[*prompt, *sequence]])).logits[0].log_softmax(-1)
    return [float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(sequence)]


@given(st.lists(st.tuples(ids, st.lists(st.integers(0, len(WORDS) - 1), max_size=7)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=30)
def test_padding_and_batches_change_nothing(pairs):
    model = tiny_llama(layers=1)
    prompts, sequences = [p for p, _ in pairs], [s for _, s in pairs]
    found = log_probs(model, prompts, sequences, batch_size=3)
    for one, prompt, sequence in zip(found, prompts, sequences, strict=True):
        assert one == pytest.approx(by_hand(model, prompt, sequence), abs=1e-9)


def test_equal_sequences_after_equal_prompts_are_scored_once():
    model, passes = tiny_llama(layers=1), []
    prompts, sequences = [[1, 2], [3], [1, 2], [1, 2], [3]], [[5, 6], [7], [5, 6], [8], [7]]
    with model.register_forward_pre_hook(lambda module, _, given: passes.append(given["input_ids"]), with_kwargs=True):
        found = log_probs(model, prompts, sequences)
    assert [len(ids) for ids in passes] == [3]
    assert found[0] == found[2] != found[3] and found[1] == found[4]


def test_absolute_positions_and_models_that_compute_all_logits_are_served():
    model = tiny_gpt2()
    prompts, sequences = [[1, 2, 3, 4, 5], [6]], [[7, 8], [9, 10, 11]]
    expected = [pytest.approx(by_hand(model, *pair), abs=1e-9) for pair in zip(prompts, sequences, strict=True)]
    assert log_probs(model, prompts, sequences) == expected

    def forward(input_ids, attention_mask, use_cache):
        return model(input_ids=input_ids, attention_mask=attention_mask)

    class Old(SimpleNamespace):
        def __call__(self, **inputs):
            return self.forward(**inputs)

    old = Old(forward=forward, config=model.config, device=model.device)
    assert log_probs(old, prompts, sequences) == expected


def test_perplexity_is_the_exponential_of_transformers_loss(llama):
    prompt, sequence = [1, 3, 5, 9], [10, 11, 12, 2]
    labels = torch.tensor([[-100] * 4 + sequence])
    loss = float(llama(torch.tensor([prompt + sequence]), labels=labels).loss)
    assert perplexity(likelihood(llama, prompt, [sequence])) == pytest.approx(math.exp(loss))


def test_a_prompt_can_be_given_for_all_as_ids_or_tensor(llama):
    sequences = [[5, 6], [7]]
    found = log_probs(llama, [[1, 2], [1, 2]], sequences)
    for prompt in ([1, 2], [[1, 2]], torch.tensor([1, 2]), torch.tensor([[1, 2]])):
        assert log_probs(llama, prompt, sequences) == found


def test_sums_are_the_scores_of_our_searches(llama):
    pair, inputs = fake_pair(llama), {"input_ids": torch.tensor([[1, 3, 5, 8]])}
    greedy = sb.greedy(pair, inputs, max_new_tokens=8)
    ((nats, _),) = likelihood(llama, inputs["input_ids"], greedy.sequences)
    assert [nats] == pytest.approx(greedy.scores, abs=1e-5)
    beam = sb.beam(pair, inputs, num_beams=3, num_return_sequences=3, max_new_tokens=8, length_penalty=0.7)
    found = likelihood(llama, inputs["input_ids"], beam.sequences)
    scores = [length_penalised(nats, count, 0.7) for nats, count in found]
    assert scores == pytest.approx(beam.scores, abs=1e-5)


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary():
    model = hash_lm(vocab_size=24)
    model.config.levels = 1  # all logits are equal
    found = likelihood(model, [3], [[1, 2, 3], [4]])
    assert perplexity(found) == pytest.approx(24)
    assert found == [(pytest.approx(-3 * math.log(24)), 3), (pytest.approx(-math.log(24)), 1)]


def test_the_corpus_counts_tokens_not_outputs():
    found = [(-1.0, 1), (-9.0, 3)]
    assert perplexity(found) == pytest.approx(math.exp(10 / 4))
    interval = bootstrap(found, statistic=perplexity, resamples=200)
    assert interval.value == perplexity(found)
    assert (interval.low, interval.high) == pytest.approx((math.exp(1), math.exp(3)))


def test_empty_outputs_have_no_tokens(llama):
    first, empty, last = likelihood(llama, [1, 2], [[5, 6], [], [7]])
    assert empty == (0.0, 0) and [first, last] == likelihood(llama, [1, 2], [[5, 6], [7]])
    assert likelihood(llama, [1, 2], [[], []]) == [(0.0, 0)] * 2


def test_a_certain_error_has_infinite_perplexity():
    assert perplexity([[-1e6, 2.0]]) == math.inf
    assert perplexity([(-math.inf, 1)]) == math.inf


def test_a_judge_reads_text_by_its_own_tokenizer_and_template(llama):
    tokenizer = chat_tokenizer()
    found = judge(llama, tokenizer, ["It rains", "a river"], ["a river is long", ""])
    prompt = tokenizer.convert_tokens_to_ids(["<s>", "user", ":", "It", "rains", "</s>", "assistant", ":"])
    answer = tokenizer.convert_tokens_to_ids(["a", "river", "is", "long"])
    nats = sum(by_hand(llama, prompt, answer))
    assert found == [(pytest.approx(nats), 15), (0.0, 0)]
    assert bits_per_byte(found[:1]) == pytest.approx(-nats / math.log(2) / 15)


def test_bits_per_byte_are_those_of_all_texts_together():
    assert bits_per_byte([[-8 * math.log(2), 16]]) == pytest.approx(0.5)
    assert bits_per_byte([[-8 * math.log(2), 16], [-1 * math.log(2), 2]]) == pytest.approx(9 / 18)


def test_gaps_to_exact_beam_search_worked_out_by_hand():
    exact, found = [(-6.0, 4), (-4.0, 2)], [(-7.0, 2), (-4.0, 2)]
    first, second = score_gaps(found, exact, length_penalty=1.0)
    assert (first.nats, first.score) == (1.0, -6 / 4 + 7 / 2)
    assert (second.nats, second.score) == (0.0, 0.0)
    assert score_gaps(found, exact, length_penalty=0.0)[0].score == 1.0
    with pytest.raises(ValueError, match="1 outputs and 2 of exact beam search"):
        score_gaps([(-1.0, 1)], exact)


def test_greedy_falls_short_of_beam_search_and_the_hybrid_does_not():
    gaps = []
    for salt in range(8):
        model = hash_lm(salt=salt)
        pair, prompt = fake_pair(model, sb.RecallDraft()), torch.tensor([[3, 1, 4]])
        exact = sb.beam(pair, {"input_ids": prompt}, num_beams=4, max_new_tokens=6)
        hybrid = sb.speculative_beam(pair, {"input_ids": prompt}, num_beams=4, max_new_tokens=6)
        greedy = sb.greedy(pair, {"input_ids": prompt}, max_new_tokens=6)
        best, ours, theirs = (likelihood(model, prompt, one.sequences[:1]) for one in (exact, hybrid, greedy))
        assert score_gaps(ours, best)[0].nats == 0
        gaps.append(score_gaps(theirs, best)[0].nats)
    assert max(gaps) > 0.01


@pytest.mark.parametrize(
    "prompts, sequences, message",
    [
        ([[]], [[1]], "the prompt of sequence 0 has no token"),
        ([[1], [2]], [[1], [2], [3]], "2 prompts and 3 sequences"),
        ([[1]], [[2], [40]], "sequence 1 holds the token 40, and GPT2LMHeadModel knows 40"),
        ([[1]], [[-100]], "holds the token -100"),
        ([[1] * 30], [[2] * 3], "has 3 tokens after a prompt of 30, and GPT2LMHeadModel has 32 positions"),
    ],
)
def test_what_no_model_can_read_is_named(prompts, sequences, message):
    with pytest.raises(ValueError, match=message):
        log_probs(tiny_gpt2(), prompts, sequences)


def test_judges_need_a_prompt_a_text(llama):
    with pytest.raises(ValueError, match="1 prompts and 2 texts"):
        judge(llama, chat_tokenizer(), ["a"], ["b", "c"])


def test_encoder_decoders_are_refused():
    model = SimpleNamespace(config=SimpleNamespace(is_encoder_decoder=True))
    with pytest.raises(ValueError, match="is an encoder-decoder"):
        log_probs(model, [1], [[2]])
