"""What `generate` gives and what we give, case by case: random options, and the comparison of everything returned."""

from __future__ import annotations

import random
from typing import Any

import torch
from fakes import HashLM, fake_pair, hash_lm
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerFast

import specbeam as sb


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
