"""Permitted answers: as transformers gives them by a `prefix_allowed_tokens_fn`, in fewer passes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from equivalence import target_of
from fakes import Oracle, every_draft, fake_pair, hash_lm, left_padded
from hypothesis import given, settings
from hypothesis import strategies as st

import specbeam as sb

END = 2
CODES = [[5, 6, 7], [5, 6, 8], [5, 9], [10, 11, 12, 13]]


def codes(dice: random.Random, end: list[int], vocabulary: int = 12) -> list[list[int]]:
    tokens = [token for token in range(vocabulary) if token not in end]
    return [dice.choices(tokens, k=dice.randint(1, 5)) for _ in range(dice.randint(1, 30))]


def test_a_trie_says_what_may_follow_a_beginning_of_an_answer() -> None:
    trie = sb.Trie(CODES, END)
    assert trie.after([]) == [5, 10] and trie.after([5]) == [6, 9] and trie.after([10, 11]) == [12]
    assert trie.after([5, 9]) == [END] and trie.after([5, 9, END]) == [END]
    assert trie.after([7]) == [END] and trie.after([5, 6, 9]) == [END]


def test_an_answer_that_begins_another_may_end_or_go_on() -> None:
    trie = sb.Trie([[5], [5, 6]], [END, 3])
    assert trie.after([5]) == [END, 3, 6] and trie.after([5, 6]) == [END, 3]


@pytest.mark.parametrize(
    ("sequences", "end", "reason"),
    [
        ([], END, "no sequences"),
        ([[]], END, "sequence 0 is empty"),
        ([[5], [6, END]], END, "sequence 1 holds the end token 2"),
        ([[5]], [], "end has no token"),
        ([["a"]], END, "sequence 0 has to be token ids.*tokenize"),
        ([[5, -1]], END, "-1, which is negative"),
    ],
)
def test_what_is_no_set_of_answers_is_refused(sequences: Any, end: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sb.Trie(sequences, end)


def test_tokens_that_the_target_lacks_and_doubled_rules_are_refused() -> None:
    pair, inputs = fake_pair(hash_lm(eos=[END])), {"input_ids": torch.tensor([[3, 4]])}
    with pytest.raises(ValueError, match="token 24, and the target knows tokens 0 to 23"):
        sb.beam(pair, inputs, num_beams=2, allowed=sb.Trie([[24]], END))
    with pytest.raises(ValueError, match="give one of them"):
        sb.beam(pair, inputs, allowed=sb.Trie(CODES, END), prefix_allowed_tokens_fn=lambda b, ids: [5])
    with pytest.raises(ValueError, match=r"has to be a specbeam\.Trie"):
        sb.greedy(pair, inputs, allowed=CODES)


def test_draws_are_permitted_answers_in_the_targets_proportions() -> None:
    target = hash_lm(eos=[END])
    pair, prompt = fake_pair(target, sb.RecallDraft()), torch.tensor([[3, 4]])
    many = {"input_ids": prompt.expand(100, -1)}
    generator, counts = torch.Generator().manual_seed(0), {5: 0, 10: 0}
    for _ in range(4):
        options: dict[str, Any] = {"do_sample": True, "top_k": 0, "max_new_tokens": 5, "generator": generator}
        decoded = sb.speculative(pair, many, allowed=sb.Trie(CODES, END), num_assistant_tokens=4, **options)
        for sequence in decoded.sequences:
            assert sequence[-1] == END and sequence[:-1] in CODES
            counts[sequence[0]] += 1
    p = target(prompt).logits[0, -1, [5, 10]].float().softmax(-1)
    assert abs(counts[5] / 400 - float(p[0])) < 0.11  # 4.4 standard deviations at most


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**9), st.integers(1, 6), st.sampled_from([None, 0, 3, 9]))
def test_results_are_those_of_transformers_with_the_function(seed: int, beams: int, budget: int | None) -> None:
    dice = random.Random(seed)
    target = target_of(dice, seed % 1000)
    end = target.generation_config.eos_token_id
    trie, inputs = sb.Trie(codes(dice, end), end), left_padded(dice, 12)
    width, draft = inputs["input_ids"].shape[1], dice.choice(every_draft(dice, target, 12))
    options: dict[str, Any] = {"max_new_tokens": dice.randint(1, 7), "num_beams": beams}
    more = {"do_sample": False, "return_dict_in_generate": True, "output_scores": True}
    function = trie.function(width)
    expected: Any = target.generate(**inputs, **options, **more, prefix_allowed_tokens_fn=function)  # type: ignore[operator]
    plain, fast = (sb.beam, sb.speculative_beam) if beams > 1 else (sb.greedy, sb.speculative)
    pair = fake_pair(target, draft)
    sizes: list[tuple[Any, dict[str, Any]]] = [(plain, {}), (fast, {"num_assistant_tokens": budget})]
    for decode, size in sizes:
        decoded = decode(pair, inputs, allowed=trie, **options, **size)
        for i, sequence in enumerate(decoded.sequences):
            assert sequence == expected.sequences[i, width:].tolist()[: len(sequence)]
            if beams > 1:
                assert decoded.scores[i] == expected.sequences_scores[i].item()


def test_what_leaves_no_choice_goes_into_one_pass_without_any_draft() -> None:
    long = [[5, *range(6, 20)], [4, *range(6, 20)]]
    pair, inputs = fake_pair(hash_lm(eos=[END])), {"input_ids": torch.tensor([[3, 4]])}
    options: dict[str, Any] = {"allowed": sb.Trie(long, END), "max_new_tokens": 20, "num_beams": 2}
    plain = sb.beam(pair, inputs, **options)
    drafted = sb.speculative_beam(pair, inputs, num_assistant_tokens=40, **options)
    assert drafted.sequences == plain.sequences and drafted.scores == plain.scores
    assert drafted.stats.target_passes <= 3 < plain.stats.target_passes


def test_a_good_draft_is_kept_to_the_trie() -> None:
    target = hash_lm(eos=[END])
    answers = [[a, b, c] for a in range(5, 12) for b in range(5, 12) for c in range(5, 12)]
    pair, inputs = fake_pair(target, Oracle(target)), {"input_ids": torch.tensor([[3, 4]])}
    decoded = sb.speculative_beam(
        pair, inputs, num_beams=3, num_assistant_tokens=30, allowed=sb.Trie(answers, END), max_new_tokens=4, trace=True
    )
    assert decoded.trace is not None
    trace, trie = decoded.trace[0], sb.Trie(answers, END)
    for one in trace.rounds:
        for node in one.drafted:
            path = [trace.nodes[at].token for at in trace.path(node)]
            assert path[-1] in trie.after(path[:-1])
