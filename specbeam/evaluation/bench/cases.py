"""What the benchmark decodes: kinds of prompts x numbers of beams, and how much of each is measured.

A full measurement of everything takes an hour on two cores. So some cases are measured in full, with every runner
and several prompts, and the others with what they are most needed for: our default against both baselines.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from specbeam.core.stats import Stats
from specbeam.evaluation.data import load
from specbeam.models.load import Pair
from specbeam.models.prompts import render_prompt

PLAIN, PACKED = "transformers", "transformers packed"
LOOKUP, ASSISTED = "prompt lookup", "assisted"  # transformers' own speculation, for one beam only
NO_DRAFT, UNTRAINED, TRAINED, ALL = "no draft", "recall + ngram", "trained draft", "all"
THEIRS = (PLAIN, PACKED, LOOKUP, ASSISTED)
TAKEN_APART = (LOOKUP, ASSISTED, NO_DRAFT, UNTRAINED, TRAINED)  # left out where a case is not measured in full

ARTICLES = ("xsum", "multi_lexsum")  # the articles come from these sets in turn
ARTICLE_TOKENS = 400
BATCH = 8  # prompts of chats and programming tasks that are decoded together
BATCHED = f"batch_{BATCH}"
PROMPTS = {"chat": 4, "article": 2, "code": 2, BATCHED: 1}  # of the last kind a prompt is a whole batch
SIDE_REPEATS = 3  # at most, where a case is not measured in full


class Planned(NamedTuple):
    """A kind of prompt and a number of beams, and how much of it is measured."""

    kind: str
    num_beams: int
    prompts: int
    in_full: bool

    @property
    def label(self) -> str:
        return f"{self.kind}_greedy" if self.num_beams == 1 else f"{self.kind}_beam_{self.num_beams}"


PLAN = (
    *(Planned("chat", 1, 4, True), Planned("chat", 2, 1, False), Planned("chat", 4, 4, True)),
    *(Planned("chat", 8, 1, False), Planned("article", 1, 2, True), Planned("article", 2, 1, False)),
    *(Planned("article", 4, 2, True), Planned("article", 8, 1, True), Planned("code", 1, 2, False)),
    *(Planned("code", 2, 1, False), Planned("code", 4, 1, False), Planned("code", 8, 1, False)),
    Planned(BATCHED, 4, 1, False),
)


@dataclass(frozen=True)
class Case:
    """Prompts of one kind that are decoded one after the other; their times are added. A prompt may be a batch."""

    kind: str
    num_beams: int
    inputs: Sequence[Mapping[str, Any]]
    in_full: bool = True
    repeats: int | None = None  # at most so many

    @property
    def label(self) -> str:
        return Planned(self.kind, self.num_beams, len(self.inputs), self.in_full).label

    def takes(self, runner: str) -> bool:
        """Whether the runner of this name has a turn."""
        if self.num_beams > 1 and runner in (LOOKUP, ASSISTED):
            return False
        return self.in_full or runner not in TAKEN_APART


@dataclass(frozen=True)
class Run:
    """One decode of one prompt."""

    seconds: float
    tokens: list[int]  # prompt excluded; of a batch all results one after the other
    stats: Stats
    kv_slots: int | None  # positions held in the target's cache at the worst moment, all rows together, if known
    prompt_tokens: int = 0  # forwarded by the prompt's own pass: once for ours, once a beam for transformers
    timed: bool = True  # whether `stats` says where the time went


Runner = Callable[[Mapping[str, Any], int], Run]  # (inputs of one prompt, num_beams) -> Run
Runs = dict[tuple[str, str], list[list[Run]]]  # (case, runner) -> repeats -> prompts


def choose(names: Sequence[str] = (), most: Mapping[str, int] = PROMPTS, full: bool = False) -> list[Planned]:
    """The planned cases of these names, in the plan's order; all where none is named.

    most: prompts of each kind at most; of a kind that is not named, none. With `full` every case has so many, and all
        runners and repeats.

    Raises ValueError for a name that is not planned, and where no case has a prompt left.
    """
    known = [planned.label for planned in PLAN]
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is no case of the benchmark; choose among {', '.join(known)}.")
    chosen = [planned for planned in PLAN if not names or planned.label in names]
    if full:
        chosen = [each._replace(prompts=most.get(each.kind, 0), in_full=True) for each in chosen]
    chosen = [each._replace(prompts=min(each.prompts, most.get(each.kind, 0))) for each in chosen]
    if not any(each.prompts for each in chosen):
        raise ValueError(f"these cases have no prompt, with {dict(most)} at most; ask for one or more of a kind.")
    return [each for each in chosen if each.prompts]


def make_cases(
    pair: Pair,
    planned: Sequence[Planned],
    article_tokens: int = ARTICLE_TOKENS,
    *,
    system: str | None = None,
    debug: bool = False,
) -> tuple[list[Case], list[dict[str, Any]]]:
    """The cases with their prompts, and where the prompts come from.

    Articles are cut to `article_tokens`; `system` and `debug` are those of `render_prompt`.

    Raises ValueError where the sets have too few articles of that length, and as `render_prompt` does.
    """
    tokenizer = pair.tokenizer
    counts = {kind: max((each.prompts for each in planned if each.kind == kind), default=0) for kind in PROMPTS}

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    chosen = {
        kind: [(example.source, example.prompt) for example in load(kind, counts[kind])] if counts[kind] else []
        for kind in ("chat", "code")
    }
    chosen["article"] = _articles(counts["article"], article_tokens, length)
    inputs = {
        kind: [dict(render_prompt(tokenizer, text, system, debug).to(pair.target.device)) for _, text in prompts]
        for kind, prompts in chosen.items()
    }
    if counts[BATCHED]:
        mixed = [example.prompt for kind in ("chat", "code") for example in load(kind, BATCH // 2)]
        chosen[BATCHED] = [("chat and code", text) for text in mixed]
        inputs[BATCHED] = [dict(render_prompt(tokenizer, mixed, system, debug).to(pair.target.device))]
    described = [
        {"kind": kind, "source": source, "tokens": tokens}
        for kind, prompts in chosen.items()
        for (source, _), tokens in zip(prompts, _lengths(inputs[kind]), strict=True)
    ]
    cases = [
        Case(kind, num_beams, inputs[kind][:prompts], in_full, None if in_full else SIDE_REPEATS)
        for kind, num_beams, prompts, in_full in planned
    ]
    return cases, described


def to_warm_up(cases: Sequence[Case]) -> list[Case]:
    """As few cases, of one prompt each, as have every kind of prompt and every number of beams."""
    found, seen = [], set()
    for case in sorted(cases, key=lambda case: not case.in_full):
        if not {case.kind, case.num_beams} <= seen:
            seen |= {case.kind, case.num_beams}
            found.append(replace(case, inputs=case.inputs[:1]))
    return found


def _lengths(inputs: Sequence[Mapping[str, Any]]) -> list[int]:
    """The tokens of every prompt, those of batches included, without padding."""
    return [length for each in inputs for length in each["attention_mask"].sum(1).tolist()]


def beginning(text: str, limit: int, length: Callable[[str], int]) -> str:
    """The longest beginning of `text` in whole words whose `length` is at most `limit`; at least one word."""
    ends = [word.end() for word in re.finditer(r"\S+", text)]
    fitting = bisect_right(ends, limit, key=lambda end: length(text[:end]))
    return text[: ends[max(fitting, 1) - 1]]


def _articles(count: int, tokens: int, length: Callable[[str], int]) -> list[tuple[str, str]]:
    longs = [
        [example for example in load(name, 40) if length(example.prompt) >= tokens]
        for name in ARTICLES[: min(count, len(ARTICLES))]
    ]
    if count and min(map(len, longs)) * len(longs) < count:
        raise ValueError(
            f"there are no {count} articles of {tokens} tokens among those drawn; ask for fewer or shorter."
        )
    examples = [longs[index % len(longs)][index // len(longs)] for index in range(count)]
    return [(example.source, beginning(example.prompt, tokens, length)) for example in examples]
