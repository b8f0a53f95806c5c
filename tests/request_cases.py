"""Random whole requests of `generate`: a model, a draft, prompts, and options in all places where they may stand."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from equivalence import LETTERS
from fakes import fake_pair
from request_models import DRAFTS, FAMILIES, HASH, New, draft_of, model_of
from request_options import (
    BY_CALL,
    INSIDE,
    LENGTHS,
    OUTPUTS,
    REFUSABLE,
    SAMPLING,
    SCORES,
    SENSELESS,
    Draw,
    stop_strings,
    token_healing,
)
from torch import Tensor
from transformers import GenerationConfig

from specbeam.models.load import Pair

FIELDS = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
CALL, CONFIG, SAVED = "call", "config", "saved"


@dataclass(frozen=True)
class Item:
    """An option that stands somewhere."""

    where: str
    name: str
    value: Any

    def __repr__(self) -> str:
        return f"{self.where}: {self.name}={self.value!r}"


@dataclass(frozen=True)
class Case:
    """A request.

    Attributes:
        inputs: of the model, without None; their names and tensors.
        how: "ids" (input_ids by name), "inputs" (the argument `inputs`) or "position" (what may, by position).
        items: the options; of two with one name and place the later counts.
        budget: most drafted tokens a pass.
    """

    seed: int
    model: str
    vocabulary: int
    salt: int
    draft: str
    inputs: dict[str, Any]
    how: str = "ids"
    budget: int | None = None
    items: tuple[Item, ...] = field(default=())

    def lm(self) -> Any:
        return model_of(self.model, self.vocabulary, self.salt)

    def pair(self) -> Pair:
        return fake_pair(self.lm(), draft_of(self.draft, self.lm(), self.seed), self.tokenizer())

    def tokenizer(self) -> Any:
        return LETTERS if self.model == HASH else None

    def value(self, name: str, usual: Any = None) -> Any:
        """What an option is in the end: the call's over the config's over the checkpoint's."""
        for where in (CALL, CONFIG, SAVED):
            found = [item.value for item in self.items if (item.where, item.name) == (where, name)]
            if found and (where == CALL or found[-1] is not None):
                return found[-1]
        return usual

    def has(self, *names: str) -> bool:
        return any(item.name in names for item in self.items)

    def without(self, *names: str) -> Case:
        return replace(self, items=tuple(item for item in self.items if item.name not in names))

    def options(self) -> tuple[dict[str, Any], GenerationConfig | None]:
        """The options of the call, made anew, and its generation config."""
        call = {item.name: item.value for item in self.items if item.where == CALL}
        config = None
        if any(item.where == CONFIG for item in self.items):
            config = GenerationConfig()
            for item in self.items:
                if item.where == CONFIG:
                    setattr(config, item.name, item.value)
        return {name: _made(value) for name, value in call.items()}, config

    @contextmanager
    def saved(self) -> Iterator[None]:
        """The model with its saved defaults, for as long as it lasts."""
        model, kept = self.lm(), self.lm().generation_config
        model.generation_config = copy.deepcopy(kept)
        for item in self.items:
            if item.where == SAVED:
                setattr(model.generation_config, item.name, copy.deepcopy(item.value))
        try:
            yield
        finally:
            model.generation_config = kept

    def __str__(self) -> str:
        shown = {name: value.tolist() if isinstance(value, Tensor) else value for name, value in self.inputs.items()}
        model = f"hash_lm({self.vocabulary}, {self.salt}, [1, 2], 0)" if self.model == HASH else self.model
        lines = [f"{model}, draft {self.draft}, budget {self.budget}, prompts by {self.how}: {shown}"]
        return "\n    ".join([*lines, *map(repr, self.items)])


def _made(value: Any) -> Any:
    if isinstance(value, New):
        return value()
    return copy.deepcopy(value) if isinstance(value, list | dict | Tensor) else value


def drawn(seed: int, rope: bool = False) -> Case:
    """The case of a number."""
    dice = random.Random(seed)
    family = dice.choice(FAMILIES if rope else FAMILIES[:-1])
    model = HASH if dice.random() < 0.8 else family
    vocabulary = dice.choice([13, 24, 40]) if model == HASH else 96
    inputs = _inputs(dice, model, vocabulary)
    prompt = inputs["input_ids"].shape[1]
    case = Case(seed, model, vocabulary, dice.randrange(12), dice.choice(DRAFTS), inputs)
    budget, how = dice.choice([None, None, 0, 1, 5, 30]), dice.choice(["ids"] * 3 + ["inputs", "position"])
    asked = _asked(dice, vocabulary, prompt, inputs["input_ids"].shape[0], model == HASH)
    return replace(case, budget=budget, how=how, items=tuple(_placed(dice, asked, vocabulary, prompt)))


def _inputs(dice: random.Random, model: str, vocabulary: int) -> dict[str, Any]:
    rows, length = dice.choice([1, 1, 2, 3]), dice.randint(1, 9)
    ids = torch.tensor([[dice.randrange(vocabulary) for _ in range(length)] for _ in range(rows)])
    mask = torch.ones_like(ids)
    padding = dice.choice(["none", "left", "left", "right", "both", "holes"])
    for row in mask:
        gone = dice.randint(0, length - 1)
        left = {"left": gone, "right": 0, "both": dice.randint(0, gone)}.get(padding)
        if left is not None:
            row[:left] = 0
            row[length - gone + left :] = 0
        elif padding == "holes":
            row[dice.sample(range(length), gone)] = 0
    if dice.random() < 0.8:  # else what is hidden is a token like any other
        ids[mask == 0] = 0
    inputs: dict[str, Any] = {"input_ids": ids}
    given = dice.random()
    if given < 0.8:
        inputs["attention_mask"] = mask if dice.random() < 0.95 else mask.bool()
    elif given < 0.9:
        inputs["attention_mask"] = None
    if dice.random() < 0.02 and length > 1:  # a prompt that is all hidden
        inputs["attention_mask"] = mask.clone()
        inputs["attention_mask"][0] = 0
    if dice.random() < 0.08:
        start = torch.tensor([[dice.randint(0, 5)] for _ in range(rows)])
        inputs["position_ids"] = start + torch.arange(length)
    if model == "gpt2" and dice.random() < 0.4:
        inputs["token_type_ids"] = torch.tensor([[dice.randrange(vocabulary) for _ in range(length)]] * rows)
    return inputs


def _asked(dice: random.Random, vocabulary: int, prompt: int, rows: int, spelt: bool) -> dict[str, Any]:
    """Options and their values."""
    asked: dict[str, Any] = {}

    def some(table: dict[str, Draw], count: int) -> None:
        for name in dice.sample([*table], min(count, len(table))):
            asked[name] = table[name](dice, vocabulary, prompt)

    if dice.random() < 0.97:
        some(LENGTHS, dice.choice([1, 1, 1, 2]))
    beams = dice.choice([1, 1, 1, 2, 3, 4, 5])
    if beams > 1 or dice.random() < 0.3:
        asked["num_beams"] = beams
    if dice.random() < 0.25:
        asked["do_sample"] = True
        some(SAMPLING, dice.choice([0, 1, 2, 3]))
    elif dice.random() < 0.4:
        asked["do_sample"] = False
        some(SAMPLING, dice.choice([0, 0, 1]))
    if dice.random() < 0.3:
        asked["num_return_sequences"] = dice.randint(1, beams if dice.random() < 0.85 else 5)
    some(SCORES, dice.choice([0, 1, 1, 2, 3, 5]))
    for name in OUTPUTS:
        if dice.random() < 0.35:
            asked[name] = True
    for name in BY_CALL:
        if dice.random() < 0.1:
            asked[name] = BY_CALL[name](dice, vocabulary, prompt)
    if spelt and dice.random() < 0.1:
        asked |= stop_strings(dice)
    elif spelt and dice.random() < (0.06 if vocabulary == 40 else 0.005):
        asked |= token_healing()
    if "guidance_scale" in asked and dice.random() < 0.6:
        copies = max(beams, asked.get("num_return_sequences", 1))
        size = (rows * copies if dice.random() < 0.9 else 1, dice.randint(1, 5))
        asked["negative_prompt_ids"] = torch.randint(
            vocabulary, size, generator=torch.Generator().manual_seed(dice.randrange(100))
        )
        if dice.random() < 0.5:
            asked["negative_prompt_attention_mask"] = torch.ones(size, dtype=torch.long)
    if dice.random() < 0.15:
        some(INSIDE, dice.choice([1, 2]))
    if dice.random() < 0.06:
        some(REFUSABLE, 1)
    if dice.random() < 0.12:
        some(SENSELESS, 1)
    return asked


def _placed(dice: random.Random, asked: dict[str, Any], vocabulary: int, prompt: int) -> Iterator[Item]:
    """The options where they stand; some stand elsewhere too, with a value that loses or wins."""
    usual = dice.choice([CALL, CALL, CONFIG, SAVED, "mixed", "mixed"])
    for name, value in asked.items():
        where = usual if usual != "mixed" else dice.choice([CALL, CONFIG, SAVED])
        yield Item(CALL if name not in FIELDS else where, name, value)
        table = LENGTHS | SCORES | SAMPLING
        if usual == "mixed" and name in table and dice.random() < 0.15:
            yield Item(dice.choice([CONFIG, SAVED]), name, table[name](dice, vocabulary, prompt))
