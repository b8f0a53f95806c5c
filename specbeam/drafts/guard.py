"""Guards: a draft that fails is reported by name and left out, and the decode goes on without it, exact as ever.

A draft is the one part of a decode that users write, and the one that correctness does not hang on. So whatever it
raises ends the draft, not the decode, and what it proposes is looked at before anything is built on it:

* Ids beyond the vocabulary, and tokens that the draft itself holds for impossible (-inf), are dropped in silence: a
  draft model's embedding is often padded. Of a token that is proposed twice the higher log-probability counts.
* Ids that are no whole numbers, log-probabilities that are NaN or +inf, and answers that do not fit what was asked are
  faults, like an exception.

Where several processes share the target every one asks its own draft, but all go on with what rank 0 proposes, and a
draft that fails on one rank is left out on all. A draft that is itself spread over them cannot be helped that way:
where it fails on one rank, the others wait for it inside.
"""

from __future__ import annotations

import math
import operator
import warnings
from typing import Any

from torch import Tensor

from specbeam.core.draft import Draft, Proposal, UnionDraft
from specbeam.core.tree import TokenTree
from specbeam.engines.ranks import Ranks


def guarded(draft: Any, vocabulary: int, ranks: Ranks | None = None) -> Draft:
    """`draft` behind a guard, in a union each of its parts behind one of its own.

    Any object with `expand` or `propose` is a draft here; hooks of `Draft` that it lacks do nothing.

    Args:
        vocabulary: how many ids the target knows; others are dropped.
        ranks: the processes that share the target and have to propose alike.
    """
    if type(draft) is UnionDraft:
        return UnionDraft([guarded(one, vocabulary, ranks) for one in draft.drafts])
    return Guard(draft, vocabulary, ranks)


class Guard(Draft):
    """A draft for one decode that answers as `draft` does until that fails, and then proposes nothing."""

    def __init__(self, draft: Any, vocabulary: int, ranks: Ranks | None = None):
        self.draft, self.vocabulary, self.ranks = draft, vocabulary, ranks
        self.state_layers = tuple(getattr(draft, "state_layers", ()))
        self.failed = False
        self.silent = False  # whether all ranks know that it failed

    @property
    def passes(self) -> int:  # type: ignore[override]
        return getattr(self.draft, "passes", 0)

    def start(self, trees: list[TokenTree], input_ids: Tensor, attention_mask: Tensor) -> None:
        self._call("start", trees, input_ids, attention_mask)

    def follow(self, b: int, running: list[int]) -> None:
        self._call("follow", b, running)

    def observe(self, b: int, nodes: list[int]) -> None:
        self._call("observe", b, nodes)

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        self._call("read_states", states, nodes)

    def compact(self, running: list[list[int]]) -> None:
        self._call("compact", running)

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        answers = None if self.silent else self._asked(trees, nodes)
        return [[[] for _ in asked] for asked in nodes] if answers is None else answers

    def _asked(self, trees: list[TokenTree], nodes: list[list[int]]) -> list[list[list[Proposal]]] | None:
        """What the draft answers, the same on all ranks; None once it has failed on any of them."""
        answers = None
        if not self.failed:
            try:
                if hasattr(self.draft, "expand"):
                    answers = self.draft.expand(trees, nodes)
                else:
                    answers = [[self.draft.propose(t, n) for n in asked] for t, asked in zip(trees, nodes, strict=True)]
                answers = self._checked(answers, nodes)
            except Exception as error:
                answers = None
                self._report("expand", error)
        if self.ranks is None:
            self.silent = self.failed
            return answers
        failures, answers = self.ranks.agree(self.failed, answers)
        self.silent = bool(failures)
        if self.silent and not self.failed:
            self.failed = True
            self._warn(f"on rank {', '.join(map(str, failures))}, which says why")
        return answers

    def _call(self, hook: str, *arguments: Any) -> None:
        method = getattr(self.draft, hook, None)
        if self.failed or method is None:
            return
        try:
            method(*arguments)
        except Exception as error:
            self._report(hook, error)

    def _report(self, hook: str, error: Exception) -> None:
        self.failed = True
        first = next(iter(str(error).splitlines()), "")
        what = f"{type(error).__name__}: {first}" if first else type(error).__name__
        self._warn(f"in {hook} ({what})")

    def _warn(self, where: str) -> None:
        warnings.warn(
            f"the draft {type(self.draft).__name__} failed {where}; decoding goes on without it, and the result is the "
            "same.",
            stacklevel=2,
        )

    def _checked(self, answers: Any, nodes: list[list[int]]) -> list[list[list[Proposal]]]:
        shape, asked = [len(some) for some in answers], [len(some) for some in nodes]
        if shape != asked:
            raise ValueError(
                f"expand has to return a list of proposals for each of {asked} nodes of the prompts, got {shape}"
            )
        return [[self._legal(proposals) for proposals in some] for some in answers]

    def _legal(self, proposals: Any) -> list[Proposal]:
        best: dict[int, float] = {}
        for one in proposals:
            try:
                token, log_prob = operator.index(one[0]), float(one[1])
            except (TypeError, ValueError, IndexError, KeyError):
                raise ValueError(f"a proposal is a pair (token, log_prob) of numbers, got {one!r}") from None
            if not log_prob < math.inf:
                raise ValueError(f"token {token} was proposed with the log-probability {log_prob}")
            if 0 <= token < self.vocabulary and log_prob > best.get(token, -math.inf):
                best[token] = log_prob
        return [Proposal(token, log_prob) for token, log_prob in best.items()]
