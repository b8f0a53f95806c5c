"""Sources: where a search gets next-token logits from. The search cannot tell one from the other.

`Autoregressive` forwards what is asked. `Speculative` lets a draft grow candidates under all running sequences
first, verifies them in the same pass, and then answers from the tree for as many steps as the draft foresaw.
Every pass scores at least what was asked, so target passes <= search steps for any draft; and the answers are
the target's own, so the result is the same (by induction over the steps).
"""

from __future__ import annotations

import time

from torch import Tensor
from transformers import PreTrainedModel

from specbeam.drafts.guard import guarded
from specbeam.engines.draft_size import Budget
from specbeam.engines.latency import cost_curve, doubt

from .autoregressive import Autoregressive
from .draft import Draft, NoDraft
from .expand import grow
from .stats import Stats


class Speculative(Autoregressive):
    """Answers from a token tree that a draft grew and the target verified.

    Args:
        target: the causal LM whose logits are asked for.
        draft: what proposes nodes.
        num_assistant_tokens: most drafted nodes a pass and prompt; None chooses pass by pass (`budget.py`).
        trace: whether to keep what is needed for `traces()`.
    """

    def __init__(
        self,
        target: PreTrainedModel,
        draft: Draft,
        num_assistant_tokens: int | None = None,
        trace: bool = False,
    ):
        if num_assistant_tokens is not None and num_assistant_tokens < 0:
            raise ValueError(f"num_assistant_tokens must not be negative, got {num_assistant_tokens}.")
        self._count = num_assistant_tokens or 0
        chosen = num_assistant_tokens is None
        self._shares: list[float] = []  # of the foretold seconds that a pass took
        self._budget: Budget | None = None
        self.draft = NoDraft() if num_assistant_tokens == 0 else draft
        super().__init__(target, trace)
        self._agreed = chosen and self.ranks is not None
        self._costs = cost_curve(target) if chosen and not self._agreed else None

    def _start_draft(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        self._budget = Budget(self._costs, self.num_beams) if self._costs else None
        if self._agreed:  # every rank has to make the same pass, and each has a clock of its own
            self._count = 4 + 4 * self.num_beams
        self.draft = guarded(self.draft, self.vocabulary, self.ranks)
        self._draft_passes = self.draft.passes
        self.draft.start(self.trees, input_ids, attention_mask)
        if self.scorer.states is not None:
            self.draft.read_states(self.scorer.states, None)

    def _step(self, running: list[list[int]]) -> None:
        if self._budget is not None:
            known = [
                [tree.logits(n) is not None for n in nodes] for tree, nodes in zip(self.trees, running, strict=True)
            ]
            self._budget.stepped(running, known)

    def _grow(self, running: list[list[int]]) -> list[list[int]]:
        began = time.perf_counter()
        count = self._count
        if self._budget is not None:
            self._budget.learn()
            count = self._budget.choose(sum(map(bool, running)))
        count = min(count, self.most_drafted)
        if not count:
            return [[] for _ in running]
        for b, nodes in enumerate(running):
            self.draft.follow(b, nodes)
        rankings = grow(
            self.trees,
            running,
            self.draft,
            num_beams=self.num_beams,
            budget=count,
            max_depth=self.max_depth,
            stop_tokens=self.stop_tokens,
            vocabulary=self.vocabulary,
        )
        if self._budget is None:
            return [ranking.nodes[:count] for ranking in rankings]
        self._budget.planned(rankings, time.perf_counter() - began)
        # a pass is as wide as its widest prompt: one that lacks fewer nodes has room for more candidates
        lacking = [
            len({node for node in nodes if tree.logits(node) is None})
            for tree, nodes in zip(self.trees, running, strict=True)
        ]
        width = max(lacks + len(one.nodes[:count]) for lacks, one in zip(lacking, rankings, strict=True))
        return [one.nodes[: width - lacks] for lacks, one in zip(lacking, rankings, strict=True)]

    def _forward(
        self, running: list[list[int]], missing: list[list[int]], drafted: list[list[int]], began: float
    ) -> None:
        before = self.stats.target_s
        super()._forward(running, missing, drafted, began)
        if self._costs is not None:
            rows = [len(asked) + len(more) for asked, more in zip(missing, drafted, strict=True)]
            self._shares.append((self.stats.target_s - before) / self._costs(max(rows) * sum(map(bool, rows))))

    def verify(self, standing: list[list[int]], chains: list[list[int]], began: float) -> None:
        """One pass over drafted `chains` of nodes, and the nodes that the prompts stand on where not scored yet.

        For searches that draw their own candidates; `began` is when they started drawing (`time.perf_counter`). Where
        memory does not suffice the chains are cut short, in place.
        """
        missing = [
            [node for node in nodes if tree.logits(node) is None]
            for tree, nodes in zip(self.trees, standing, strict=True)
        ]
        if any(missing) or any(chains):
            self.books.close_pass()
            self._forward(standing, missing, chains, began)

    def commit(self, b: int, node: int) -> None:
        """Prompt `b` takes the step at `node`: for searches whose prompts move at their own pace."""
        self.trees[b].release(self.trees[b].depths[node])
        self.books.stood_alone(b, node)
        self.books.step(self.watch)

    def finish(self) -> Stats:
        self.stats.draft_passes = self.draft.passes - self._draft_passes
        doubt(self.scorer.model, self._shares)
        return super().finish()
