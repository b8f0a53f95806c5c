"""What the benchmark decodes: kinds of prompts x numbers of beams, and how much of each is measured.

Measuring everything in full takes an hour on two cores. So only some cases are measured in full, with every runner and
several prompts; the others compare our default with both baselines.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from specbeam.core.stats import Stats
from specbeam.evaluation.data import Example, load
from specbeam.evaluation.words import word_ends
from specbeam.models.load import Pair
from specbeam.models.prompts import render_prompt

PLAIN, PACKED = "transformers", "transformers packed"
LOOKUP, ASSISTED = "prompt lookup", "assisted"  # transformers' own speculation, which allows one beam only
NO_DRAFT, UNTRAINED, TRAINED, ALL = "no draft", "recall + ngram", "trained draft", "all"
THEIRS = (PLAIN, PACKED, LOOKUP, ASSISTED)
TAKEN_APART = (LOOKUP, ASSISTED, NO_DRAFT, UNTRAINED, TRAINED)  # left out unless a case is measured in full

ARTICLES = ("xsum", "multi_lexsum")  # articles are taken from these sets in turn
ARTICLE_TOKENS = 400
BATCH = 8  # chat and programming prompts decoded together
BATCHED = f"batch_{BATCH}"
PROMPTS = {"chat": 4, "article": 2, "code": 2, BATCHED: 1}  # a prompt of the last kind is a whole batch
SIDE_REPEATS = 3  # at most, unless a case is measured in full


@dataclass(frozen=True)
class Case:
    """Prompts of one kind, decoded one after the other; their times are added. A prompt may be a batch.

    The plan says how many `prompts` are measured; `make_cases` adds their `inputs`.
    """

    kind: str
    num_beams: int
    prompts: int = 1
    in_full: bool = True  # with every runner and all repeats
    inputs: Sequence[Mapping[str, Any]] = ()

    @property
    def label(self) -> str:
        return f"{self.kind}_greedy" if self.num_beams == 1 else f"{self.kind}_beam_{self.num_beams}"

    def takes(self, runner: str) -> bool:
        """Whether the runner of this name takes part."""
        if self.num_beams > 1 and runner in (LOOKUP, ASSISTED):
            return False
        return self.in_full or runner not in TAKEN_APART


PLAN = (
    *(Case("chat", 1, 4), Case("chat", 2, 1, False), Case("chat", 4, 4), Case("chat", 8, 1, False)),
    *(Case("article", 1, 2), Case("article", 2, 1, False), Case("article", 4, 2), Case("article", 8, 1)),
    *(Case("code", 1, 2, False), *(Case("code", beams, 1, False) for beams in (2, 4, 8)), Case(BATCHED, 4, 1, False)),
)


@dataclass(frozen=True)
class Run:
    """One decode of one prompt."""

    seconds: float
    tokens: list[int]  # prompt excluded; the results of a batch one after the other
    stats: Stats
    kv_slots: int | None  # most positions held in the target's cache at once, all rows together; None: unknown
    prompt_tokens: int = 0  # forwarded by the prompt's own pass: once by us, once a beam by transformers
    timed: bool = True  # whether `stats` splits the time


Runner = Callable[[Mapping[str, Any], int], Run]  # (inputs of one prompt, num_beams) -> Run
Runs = dict[tuple[str, str], list[list[Run]]]  # (case, runner) -> repeats -> prompts


def choose(names: Sequence[str] = (), most: Mapping[str, int] = PROMPTS, full: bool = False) -> list[Case]:
    """The planned cases with these names, in the plan's order; all by default.

    most: the most prompts of each kind; 0 for a kind that is missing. With `full` every case has so many, and all
        runners and repeats.

    Raises ValueError for an unknown name, and if no case has a prompt left.
    """
    known = [planned.label for planned in PLAN]
    for name in names:
        if name not in known:
            raise ValueError(f"{name!r} is no case of the benchmark; choose among {', '.join(known)}.")
    chosen = []
    for planned in PLAN:
        prompts = most.get(planned.kind, 0) if full else min(planned.prompts, most.get(planned.kind, 0))
        if prompts and (not names or planned.label in names):
            chosen.append(replace(planned, prompts=prompts, in_full=full or planned.in_full))
    if not chosen:
        raise ValueError(f"these cases have no prompt, with {dict(most)} at most; ask for one or more of a kind.")
    return chosen


def make_cases(
    pair: Pair,
    planned: Sequence[Case],
    article_tokens: int = ARTICLE_TOKENS,
    *,
    system: str | None = None,
    debug: bool = False,
) -> tuple[list[Case], list[dict[str, Any]]]:
    """The cases with their prompts, and the origin and length of each prompt.

    Articles are cut to `article_tokens`; `system` and `debug` are those of `render_prompt`.

    Raises ValueError if the sets have too few articles of that length, and as `render_prompt` does.
    """
    counts = {kind: max((each.prompts for each in planned if each.kind == kind), default=0) for kind in PROMPTS}

    def length(text: str) -> int:
        return len(pair.tokenizer(text, add_special_tokens=False)["input_ids"])

    def render(prompt: Any) -> dict[str, Any]:
        return dict(render_prompt(pair.tokenizer, prompt, system, debug).to(pair.target.device))

    chosen = {kind: load(kind, counts[kind]) if counts[kind] else [] for kind in ("chat", "code")}
    chosen["article"] = _articles(counts["article"], article_tokens, length)
    inputs = {kind: [render(example.prompt) for example in examples] for kind, examples in chosen.items()}
    if counts[BATCHED]:
        mixed = [example for kind in ("chat", "code") for example in load(kind, BATCH // 2)]
        chosen[BATCHED] = [replace(example, source="chat and code") for example in mixed]
        inputs[BATCHED] = [render([example.prompt for example in mixed])]
    described = []
    for kind, examples in chosen.items():
        tokens = [length for each in inputs[kind] for length in each["attention_mask"].sum(1).tolist()]
        for example, count in zip(examples, tokens, strict=True):
            described.append({"kind": kind, "source": example.source, "tokens": count})
    return [replace(case, inputs=inputs[case.kind][: case.prompts]) for case in planned], described


def to_warm_up(cases: Sequence[Case]) -> list[Case]:
    """A few cases of one prompt each that cover every kind of prompt and every number of beams."""
    chosen, seen = [], set()
    for case in sorted(cases, key=lambda case: not case.in_full):
        if not {case.kind, case.num_beams} <= seen:
            seen |= {case.kind, case.num_beams}
            chosen.append(replace(case, inputs=case.inputs[:1]))
    return chosen


def beginning(text: str, limit: int, length: Callable[[str], int]) -> str:
    """The longest beginning of `text`, in whole words, with a `length` of at most `limit`; at least one word."""
    ends = word_ends(text)
    fitting = bisect_right(ends, limit, key=lambda end: length(text[:end]))
    return text[: ends[max(fitting, 1) - 1]]


def _articles(count: int, tokens: int, length: Callable[[str], int]) -> list[Example]:
    """Articles from both sets in turn, cut to so many tokens."""
    longs = [
        [example for example in load(name, 40) if length(example.prompt) >= tokens]
        for name in ARTICLES[: min(count, len(ARTICLES))]
    ]
    if count and min(map(len, longs)) * len(longs) < count:
        raise ValueError(
            f"there are no {count} articles of {tokens} tokens among those drawn; ask for fewer or shorter."
        )
    examples = [longs[index % len(longs)][index // len(longs)] for index in range(count)]
    return [replace(example, prompt=beginning(example.prompt, tokens, length)) for example in examples]
