"""UnionDraft: several drafts at once, each asked until it fails, and the decode goes on without it, exact as ever.

A draft is the one part of a decode that users write, and the one that correctness does not depend on. So whatever it
raises ends the draft, not the decode, and what it proposes is checked before anything is built on it:

* Tokens that the draft itself holds for impossible (-inf) are dropped in silence. Of a token that is proposed twice the
  higher log-probability counts.
* Ids that are no whole numbers, log-probabilities that are NaN or +inf, and answers that do not fit the nodes are
  faults, like an exception.
* A draft that runs out of memory is no fault: it is asked about fewer nodes, and left out if that does not help.

Where several processes share the target every one asks its own draft, but all go on with what rank 0 proposes, and a
draft that fails on one rank is left out on all. A draft that is itself spread over them cannot be helped that way:
where it fails on one rank, the others wait for it inside.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from specbeam.core.draft import Draft, NoDraft, Proposal
from specbeam.core.tree import TokenTree
from specbeam.engines.memory import ran_out
from specbeam.engines.ranks import Ranks
from specbeam.engines.target import DecodeLock

Proposals = list[list[list[Proposal]]]  # a list for each node of each prompt
HOOKS = ("start", "follow", "observe", "compact", "finish", "expand")
_LOG_PROB = operator.itemgetter(1)


def _hook(name: str) -> Callable[..., None]:
    """The hook of that name: calls it on every draft that has not failed and has one of its own."""

    def call(self: UnionDraft, *arguments: Any) -> None:
        for number in self._with_own[name]:
            if number not in self._failed or name == "finish":  # one that failed has something to free as well
                try:
                    getattr(self.drafts[number], name)(*arguments)
                except Exception as error:
                    self._report(number, name, error)

    return call


class UnionDraft(Draft):
    """Several drafts at once; a token that more than one proposes keeps the higher log-probability.

    Any object with `expand` or `propose` is a draft here; hooks of `Draft` that it lacks do nothing.

    Args:
        drafts: at least one; the parts of a union count as so many.
        ranks: the processes that share the target and have to propose alike.
    """

    def __init__(self, drafts: Sequence[Any], ranks: Ranks | None = None):
        if not drafts:
            raise ValueError("a union needs at least one draft; NoDraft() proposes nothing.")
        parts = [draft.drafts if isinstance(draft, UnionDraft) else [draft] for draft in drafts]
        self.drafts, self.ranks = [draft for some in parts for draft in some], ranks
        self._layers: list[tuple[int, ...]] = [tuple(getattr(draft, "state_layers", ())) for draft in self.drafts]
        self.state_layers = tuple(sorted({layer for layers in self._layers for layer in layers}))
        self._failed: set[int] = set()  # on this rank
        self._left_out: set[int] = set()  # on all ranks
        self._with_own = {hook: [n for n, draft in enumerate(self.drafts) if _has_own(draft, hook)] for hook in HOOKS}
        # a draft remembers one decode at a time; all threads take the locks in the same order
        self.locks: list[DecodeLock] = sorted({*filter(None, map(_lock_of, self.drafts))}, key=id)

    @property
    def passes(self) -> int:  # type: ignore[override]
        return sum([getattr(draft, "passes", 0) for draft in self.drafts])

    start = _hook("start")
    follow = _hook("follow")
    observe = _hook("observe")
    compact = _hook("compact")
    finish = _hook("finish")

    def read_states(self, states: Tensor, nodes: list[list[int]] | None) -> None:
        for number, layers in enumerate(self._layers):
            if layers and number not in self._failed:
                wanted = [self.state_layers.index(layer) for layer in layers]
                try:
                    self.drafts[number].read_states(states[..., wanted, :], nodes)
                except Exception as error:
                    self._report(number, "read_states", error)

    def expand(self, trees: list[TokenTree], nodes: list[list[int]]) -> Proposals:
        best: list[list[dict[int, float]]] = [[{} for _ in some] for some in nodes]
        for number in range(len(self.drafts)):
            if number in self._left_out:
                continue
            answers = [] if number in self._failed else self._ask(number, trees, nodes)
            if self.ranks is not None:
                answers = self._agree(self.ranks, number, answers)
            if number in self._failed:
                self._left_out.add(number)
                continue
            for of_prompt, some in zip(best, answers, strict=True):
                for of_node, proposals in zip(of_prompt, some, strict=True):
                    for token, log_prob in proposals:
                        of_node[token] = max(log_prob, of_node.get(token, -math.inf))
        ranked = [[sorted(of_node.items(), key=_LOG_PROB, reverse=True) for of_node in of_prompt] for of_prompt in best]
        return [[[Proposal(*pair) for pair in pairs] for pairs in of_prompt] for of_prompt in ranked]

    def _agree(self, ranks: Ranks, number: int, answers: Proposals) -> Proposals:
        """What the draft proposes on rank 0; it has failed on all once it has failed on any."""
        failures, answers = ranks.agree(number in self._failed, answers)
        if failures and number not in self._failed:
            self._failed.add(number)
            self._warn(number, f"failed on rank {', '.join(map(str, failures))}, which says why")
        return answers

    def _ask(self, number: int, trees: list[TokenTree], nodes: list[list[int]]) -> Proposals:
        draft = self.drafts[number]
        try:
            if number in self._with_own["expand"]:
                answers = draft.expand(trees, nodes)
            else:
                pairs = zip(trees, nodes, strict=True)
                answers = [[draft.propose(tree, node) for node in some] for tree, some in pairs]
            shape, asked = [len(some) for some in answers], [len(some) for some in nodes]
            if shape != asked:
                raise ValueError(
                    f"expand has to return a list of proposals for each of {asked} nodes of the prompts, got {shape}"
                )
            return [[_legal(proposals) for proposals in some] for some in answers]
        except Exception as error:
            fewer = _first_half(nodes)
            if not ran_out(error) or not any(fewer):
                self._report(number, "expand", error)
                return []
        self._warn(number, "ran out of memory over all nodes at once and is asked about fewer", ending="")
        answers = self._ask(number, trees, fewer)
        return [some + [[]] * (len(all_) - len(some)) for some, all_ in zip(answers, nodes, strict=False)]

    def _report(self, number: int, hook: str, error: Exception) -> None:
        self._failed.add(number)
        first = next(iter(str(error).splitlines()), "")
        what = f"{type(error).__name__}: {first}" if first else type(error).__name__
        self._warn(number, f"ran out of memory in {hook}" if ran_out(error) else f"failed in {hook} ({what})")

    def _warn(self, number: int, what: str, ending: str = "decoding goes on without it, and ") -> None:
        warnings.warn(
            f"the draft {type(self.drafts[number]).__name__} {what}; {ending}the result is the same.", stacklevel=2
        )


def guarded(draft: Any, ranks: Ranks | None = None) -> UnionDraft | None:
    """`draft` for one decode, in a union of its own: the other parts go on where one fails. None proposes nothing."""
    return None if draft is None or type(draft) is NoDraft else UnionDraft([draft], ranks)


def _has_own(draft: Any, hook: str) -> bool:
    """Whether a draft has a hook other than that of `Draft`, which does nothing."""
    method = getattr(draft, hook, None)
    return method is not None and getattr(method, "__func__", None) is not getattr(Draft, hook)


def _lock_of(draft: Any) -> DecodeLock | None:
    """The lock of a draft, made at the first call; None for an object that takes no attributes."""
    if not hasattr(draft, "__dict__"):
        return None
    known = vars(draft).get("_decode_lock")
    return known or vars(draft).setdefault("_decode_lock", DecodeLock(type(draft).__name__))


def _legal(proposals: Any) -> list[Proposal]:
    """The proposals of a node, impossible ones left out. Raises ValueError for what is none."""
    legal = []
    for one in proposals:
        try:
            token, log_prob = operator.index(one[0]), float(one[1])
        except (TypeError, ValueError, IndexError, KeyError):
            raise ValueError(f"a proposal is a pair (token, log_prob) of numbers, got {one!r}") from None
        if not log_prob < math.inf:
            raise ValueError(f"token {token} was proposed with the log-probability {log_prob}")
        if log_prob > -math.inf:
            legal.append(Proposal(token, log_prob))
    return legal


def _first_half(nodes: list[list[int]]) -> list[list[int]]:
    """Half as many nodes, of the first prompts; none if there is one."""
    left = sum(map(len, nodes)) // 2
    half = []
    for some in nodes:
        half.append(some[:left])
        left -= len(half[-1])
    return half
