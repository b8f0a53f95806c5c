"""The source that answers by forwarding what is asked, and the part that all sources share: one pass, and its books."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Collection

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.engines.memory import alone, ran_out
from specbeam.engines.ranks import sharing
from specbeam.engines.sequences import scorer_for

from .draft import Draft, NoDraft
from .ledger import Books
from .stats import Progress, Stats, Trace
from .tree import ROOT, TokenTree, Verdict

_KEPT = 16  # likeliest next tokens remembered of every scored node, for drafts to recall
_Answers = list[tuple[Tensor, float, Verdict]]  # of each node: its logits, their logsumexp, the likeliest tokens


class Autoregressive:
    """Answers by forwarding the asked nodes, nothing else.

    Args:
        target: the causal LM whose logits are asked for.
        trace: whether to keep what is needed for `traces()`.
    """

    draft: Draft = NoDraft()
    watch: Callable[[Progress], object] | None = None  # called after every committed step; what it raises ends it all

    def __init__(self, target: PreTrainedModel, trace: bool = False):
        self.scorer = scorer_for(target, tuple(getattr(self.draft, "state_layers", ())))
        self.ranks = sharing(target)
        self.books = Books(self.scorer, trace)
        self.most_drafted = sys.maxsize  # nodes a pass and prompt: fewer once memory did not suffice for more

    @property
    def stats(self) -> Stats:
        """What the decode has cost so far."""
        return self.books.stats

    @property
    def vocabulary(self) -> int:
        """How many logits a node has."""
        return self._template.shape[-1]

    def start(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        max_new_tokens: int,
        num_beams: int = 1,
        stop_tokens: Collection[int] = (),
    ) -> list[TokenTree]:
        """Forward the left-padded prompts, shape (batch, prompt length); returns a tree a prompt."""
        began = time.perf_counter()
        self.max_depth, self.num_beams, self.stop_tokens = max_new_tokens - 1, num_beams, set(stop_tokens)
        masks = attention_mask.bool()
        self.trees = [TokenTree(ids[mask].tolist()) for ids, mask in zip(input_ids, masks, strict=True)]
        rows = self.scorer.start(self.trees, input_ids, attention_mask)
        self._template = rows[0]
        self._start_draft(input_ids, attention_mask)
        self._record(_read(rows), [[ROOT] for _ in self.trees])
        self.books.open(self.trees, time.perf_counter() - began)
        return self.trees

    def logits(self, running: list[list[int]]) -> Tensor:
        """The target's logits for the running nodes of every prompt, shape (batch, rows, vocabulary).

        All prompts have the same number of rows, or none: a finished prompt is not forwarded and gets zeros. One call
        is one committed step of the search.
        """
        missing = [
            list(dict.fromkeys(node for node in nodes if tree.logits(node) is None))
            for tree, nodes in zip(self.trees, running, strict=True)
        ]
        self._step(running)
        if any(missing):
            self.books.close_pass()
            self._pass(running, [sorted(nodes) for nodes in missing])
        for tree, nodes in zip(self.trees, running, strict=True):
            if nodes:
                tree.release(tree.depths[nodes[0]])
        self.books.stood(running)
        self.books.step(self.watch)
        nothing = self._template.new_zeros(max(map(len, running)), self.vocabulary)
        return torch.stack(
            [
                torch.stack([tree.logits(node) for node in nodes]) if nodes else nothing  # type: ignore[arg-type]
                for tree, nodes in zip(self.trees, running, strict=True)
            ]
        )

    def finish(self) -> Stats:
        """Close the books on this decode. Nothing is asked any more."""
        self.scorer.close()
        return self.books.close()

    def traces(self) -> list[Trace]:
        """What happened so far, a trace a prompt, in plain data."""
        return self.books.traces()

    def _step(self, running: list[list[int]]) -> None:
        pass

    def _start_draft(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        pass

    def _grow(self, running: list[list[int]]) -> list[list[int]]:
        """Nodes to verify in the next pass, in the order of their ranking."""
        return [[] for _ in running]

    def _pass(self, running: list[list[int]], missing: list[list[int]]) -> None:
        """One pass of the target over the missing nodes and those that the draft grows under `running`.

        Candidates grow for prompts that lack nothing as well: their rows are part of the pass anyhow, and the next
        pass is due as soon as any prompt lacks something.
        """
        began = time.perf_counter()
        self._forward(running, missing, self._grow(running), began)

    def _forward(
        self, running: list[list[int]], missing: list[list[int]], drafted: list[list[int]], began: float
    ) -> None:
        """One pass; where memory does not suffice, `drafted` is cut short until it does (on ranks it is an error)."""
        self.draft.compact(running)
        drawn = time.perf_counter()
        self.scorer.compact(running)
        answers = None
        while answers is None:
            nodes = [sorted({*asked, *more}) for asked, more in zip(missing, drafted, strict=True)]
            answers = self._score(nodes, drafted)
        if self.scorer.states is not None:
            asked = [nodes[b] for b in self.scorer.rows]
            states = [states[: len(one)] for states, one in zip(self.scorer.states, asked, strict=True)]
            self.draft.read_states(torch.cat(states), nodes)
        self._record(answers, nodes)
        self.books.passed(missing, drafted, drawn - began, time.perf_counter() - drawn)

    def _score(self, nodes: list[list[int]], drafted: list[list[int]]) -> _Answers | None:
        """What the target says of `nodes`; None if memory did not suffice: `drafted` is cut by half then."""
        try:
            return _read(self.scorer.score(nodes))
        except (RuntimeError, MemoryError) as error:
            most, tokens = max(map(len, drafted)), sum(map(len, nodes))
            if not ran_out(error):
                raise
            if self.ranks is not None:
                raise alone(error, self.ranks.own, tokens) from error
            if not most:
                raise type(error)(
                    f"memory did not suffice for a pass over {tokens} tokens, none of them drafted. Shorten the "
                    "prompts, or decode with fewer of them, fewer beams or a narrower dtype."
                ) from error
            self.scorer.take_back(nodes)
        self.most_drafted = most // 2
        for more in drafted:
            del more[self.most_drafted :]
        warnings.warn(
            f"memory did not suffice for a pass over {tokens} tokens: at most {self.most_drafted} are drafted a prompt "
            f"from here on. The result is the same; num_assistant_tokens={self.most_drafted} saves the attempt.",
            stacklevel=2,
        )
        return None

    def _record(self, answers: _Answers, nodes: list[list[int]]) -> None:
        """Put the target's answers into the trees; they come in the order of the nodes, prompt after prompt."""
        rest = iter(answers)
        for b, asked in enumerate(nodes):
            for node, (row, normalizer, verdict) in zip(asked, rest, strict=False):
                if not -1e30 < normalizer < 1e30:
                    where = f" of prompt {b + 1} of {len(nodes)}" if len(nodes) > 1 else ""
                    raise ValueError(
                        f"{type(self.scorer.model).__name__} gave logits that are NaN or infinite after "
                        f"{self.trees[b].depths[node]} new tokens{where}. Load it in a wider dtype (float32 or "
                        "bfloat16 instead of float16), or check its weights."
                    )
                self.trees[b].record(node, row, normalizer, verdict)
            self.draft.observe(b, asked)


def _read(rows: Tensor) -> _Answers:
    """What logits of shape (nodes, vocabulary) say."""
    full = rows.float()
    normalizers = full.logsumexp(-1)
    kept = full.topk(min(_KEPT, full.shape[-1]))
    log_probs = (kept.values - normalizers[:, None]).tolist()
    verdicts = map(Verdict, kept.indices.tolist(), log_probs)
    return list(zip(rows, normalizers.tolist(), verdicts, strict=True))
