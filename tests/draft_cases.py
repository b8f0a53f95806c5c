"""Random cases of drafts that do as they like; `fuzz.py` runs them.

A case is a target whose logits are a hash of the prefix, a batch of prompts, options of `generate`, and a draft that
may know the target, guess, lie, fail, propose nonsense or have a vocabulary of its own; in some cases memory runs out
in the middle. Our searches, the drop-in and transformers' `generate` have to agree on all that they return (`check` of
`equivalence.py`), and every prompt has to get from a batch what it gets alone. A case is made from its number only.
"""

from __future__ import annotations

import random
import warnings
from contextlib import suppress
from functools import wraps
from typing import Any

import torch
from equivalence import LETTERS, check, options_of, target_of
from fakes import HashLM, Oracle, RandomDraft, every_draft, fake_pair, hash_lm, left_padded

import specbeam as sb
from specbeam.core.tree import TokenTree
from specbeam.drafts.text import TextDraft
from specbeam.drafts.token_mapping import Spelling
from specbeam.engines.tree_cache import SlotLayer

HOOKS = ("start", "follow", "observe", "propose", "expand", "compact")
MOST_FAILURES = 10


class Failing(Oracle):
    """Raises in one of its hooks from some call on."""

    def __init__(self, target: HashLM, randomness: random.Random):
        super().__init__(target)
        hook, self.left = randomness.choice(HOOKS), randomness.randint(0, 12)
        plain = getattr(self, hook)

        def failing(*arguments: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise randomness.choice([KeyError("gone"), ValueError(), RuntimeError("out of memory"), MemoryError()])
            return plain(*arguments)

        setattr(self, hook, failing)


class Nonsense(RandomDraft):
    """Proposes what is none among what may be right: strange ids, strange log-probabilities, strange types."""

    def propose(self, tree: TokenTree, node: int) -> Any:
        dice = self.randomness
        strange = [
            *[(dice.randint(-3, 2 * self.vocabulary), -dice.random()) for _ in range(4)],
            (dice.randrange(self.vocabulary), dice.choice([float("-inf"), -1e30, 5.0])),
            (torch.tensor(dice.randrange(self.vocabulary)), torch.tensor(-dice.random())),
        ]
        if dice.random() < 0.02:
            strange.append(dice.choice([(1, float("nan")), ("a", -1.0), (1.5, -1.0), None, (1,), (2, float("inf"))]))
        dice.shuffle(strange)
        return strange + super().propose(tree, node)


class Shapeless(RandomDraft):
    """Sometimes answers for other nodes than it was asked for."""

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> Any:
        answers = super().expand(trees, nodes)
        return self.randomness.choice([answers] * 30 + [answers[1:], [[]] * len(nodes), None, [answers]])


class Texts:
    """A tokenizer of random short texts, as far as `Spelling` looks at one."""

    all_special_ids = ()
    bos_token_id = eos_token_id = pad_token_id = None

    def __init__(self, randomness: random.Random, size: int):
        found: dict[str, int] = {}
        while len(found) < size:
            found.setdefault("".join(randomness.choice("abcd") for _ in range(randomness.randint(1, 4))), len(found))
        self.vocabulary = found

    def get_vocab(self) -> dict[str, int]:
        return self.vocabulary


class Cramped(HashLM):
    """Has no memory for tree passes over more than `room` tokens a prompt, and says so before or after it writes."""

    room, early = 8, False

    @wraps(HashLM.forward)  # `generate` looks at the signature to know what to hand over
    def forward(self, input_ids: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        layers = getattr(kwargs.get("past_key_values"), "layers", None)
        written = layers[0].keys.shape[2] if layers and isinstance(layers[0], SlotLayer) else 0
        output = None if self.early else super().forward(input_ids, *args, **kwargs)
        if written and input_ids.shape[1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return output or super().forward(input_ids, *args, **kwargs)


def draft_of(randomness: random.Random, target: HashLM) -> sb.Draft:
    vocabulary = target.config.vocab_size
    drafts = every_draft(randomness, target, vocabulary)
    drafts += [Failing(target, randomness), Nonsense(vocabulary, randomness), Shapeless(vocabulary, randomness)]
    size = randomness.randint(20, 60)
    texts = Texts(randomness, vocabulary), Texts(randomness, size)
    with suppress(ValueError):  # too few texts in common
        drafts.append(TextDraft(hash_lm(size, target.config.salt), Spelling(*texts), ahead=randomness.randint(0, 2)))
    draft = randomness.choice(drafts)
    return sb.UnionDraft([draft, randomness.choice(drafts)]) if randomness.random() < 0.2 else draft


def run_case(number: int) -> str:
    """Raises where the case fails; returns what was in it."""
    randomness = random.Random(number)
    torch.manual_seed(number)
    target = target_of(randomness, randomness.randrange(10**6))
    vocabulary = target.config.vocab_size
    options = options_of(randomness)
    inputs = left_padded(randomness, vocabulary, most=randomness.choice([1, 3, 8]))
    draft, budget = draft_of(randomness, target), randomness.choice([None, 0, 1, 5, 30])
    if randomness.random() < 0.2:
        target.__class__ = Cramped
        target.early = randomness.random() < 0.5  # type: ignore[assignment]
        target.room = randomness.randint(options.get("num_beams", 1), 12)  # type: ignore[assignment]
    told = f"{type(draft).__name__}, {len(inputs['input_ids'])} prompts, budget {budget}, {options}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(target, draft, inputs, options, budget, f"case {number}: {told}")
        alone(target, draft, inputs, options, budget)
        sampled(target, draft, inputs, options, number)
    return told


def alone(target: HashLM, draft: sb.Draft, inputs: Any, options: dict[str, Any], budget: int | None) -> None:
    """Every prompt gets from the batch what it gets by itself."""
    target.config.levels = 49_999  # which of two equal scores comes first may depend on the company
    # processors that see how many rows there are, or the padding, do differ between the two
    seeing = ("logits_processor", "repetition_penalty", "no_repeat_ngram_size")
    given: dict[str, Any] = {name: value for name, value in options.items() if name not in seeing}
    decode, pair = sb.speculative_beam if "num_beams" in given else sb.speculative, fake_pair(target, draft, LETTERS)
    together = decode(pair, inputs, num_assistant_tokens=budget, **given)
    found = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        one = ids[mask.bool()][None]  # a prompt may hold the pad id as a token, so the mask has to be given
        found += decode(pair, {"input_ids": one, "attention_mask": torch.ones_like(one)}, **given).sequences
    assert together.sequences == found, (together.sequences, found)


def sampled(target: HashLM, draft: sb.Draft, inputs: Any, options: dict[str, Any], number: int) -> None:
    """The drop-in draws what the target draws; sampling by rejection is the same for the same seed."""
    asked: dict[str, Any] = {"do_sample": True, "max_new_tokens": options["max_new_tokens"]}
    torch.manual_seed(number)
    expected: Any = target.generate(**inputs, **asked)  # type: ignore[operator]
    torch.manual_seed(number)
    found: Any = sb.SpeculativeLM(target, draft).generate(**inputs, **asked)
    assert torch.equal(found, expected), (found, expected)
    if not isinstance(draft, Oracle | sb.NoDraft):
        return  # random drafts go on with their dice
    twice = [
        sb.speculative(
            fake_pair(target, sb.RecallDraft()), inputs, generator=torch.Generator().manual_seed(number), **asked
        ).sequences
        for _ in range(2)
    ]
    assert twice[0] == twice[1], twice
