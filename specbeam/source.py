"""Sources: where a search gets next-token logits from. The search cannot tell one from the other.

`Autoregressive` forwards what is asked. `Speculative` lets a draft grow candidates under all running sequences
first, verifies them in the same pass, and then answers from the tree for as many steps as the draft foresaw.
Every pass scores at least what was asked, so target passes <= search steps for any draft; and the answers are
the target's own, so the result is the same (by induction over the steps).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .budget import Budget
from .costs import cost_curve, doubt
from .drafts import Draft, NoDraft
from .growth import grow
from .sequences import scorer_for
from .stats import Progress, Recorder, Stats, Trace, TraceRound
from .tree import ROOT, TokenTree, Verdict

_KEPT = 16  # likeliest next tokens remembered of every scored node, for drafts to recall


class Autoregressive:
    """Answers by forwarding the asked nodes, nothing else.

    Args:
        target: the causal LM whose logits are asked for.
        trace: whether to keep what is needed for `traces()`.
    """

    draft: Draft = NoDraft()
    watch: Callable[[Progress], object] | None = None  # called after every committed step; what it raises ends it all

    def __init__(self, target: PreTrainedModel, trace: bool = False):
        self.scorer = scorer_for(target, self.draft.state_layers)
        self.stats = Stats()
        self._trace = trace

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
        self._recorders = [Recorder() for _ in self.trees]
        self._best = [ROOT] * len(self.trees)
        self._since_pass = 0
        rows = self.scorer.start(self.trees, input_ids, attention_mask)
        self._start_draft(input_ids, attention_mask)
        self._record(rows, [[ROOT] for _ in self.trees])
        self.stats.prefill_s = self.stats.target_s = time.perf_counter() - began
        for recorder in self._recorders:
            recorder.rounds.append(TraceRound([ROOT], [], 0, 0.0, self.stats.prefill_s))
        self._began = time.perf_counter()
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
            self._close_pass()
            self._pass(running, [sorted(nodes) for nodes in missing])
        for tree, recorder, nodes in zip(self.trees, self._recorders, running, strict=True):
            if nodes:
                tree.release(tree.depths[nodes[0]])
            if self._trace:
                recorder.steps.append(list(nodes))
        self._commit([nodes[0] if nodes else best for nodes, best in zip(running, self._best, strict=True)])
        nothing = self._template.new_zeros(max(map(len, running)), self.vocabulary)
        return torch.stack(
            [
                torch.stack([tree.logits(node) for node in nodes]) if nodes else nothing  # type: ignore[arg-type]
                for tree, nodes in zip(self.trees, running, strict=True)
            ]
        )

    @property
    def vocabulary(self) -> int:
        """How many logits a node has."""
        return self._template.shape[-1]

    def _commit(self, best: list[int]) -> None:
        self._best = best
        self.stats.steps += 1
        self._since_pass += 1
        if self.watch is not None:
            tokens = [tree.path(node) for tree, node in zip(self.trees, best, strict=True)]
            seconds = self.stats.prefill_s + time.perf_counter() - self._began
            self.watch(Progress(self.stats.steps, self.scorer.passes, seconds, tokens, self.traces))

    def finish(self) -> Stats:
        """Close the books on this decode."""
        self._close_pass()
        self.stats.decode_s = time.perf_counter() - self._began
        self.stats.target_passes = self.scorer.passes
        self.stats.target_tokens = self.scorer.tokens
        self.stats.peak_kv_tokens = self.scorer.peak_slots
        return self.stats

    def traces(self) -> list[Trace]:
        """What happened so far, a trace a prompt, in plain data."""
        if not self._trace:
            return []
        return [
            recorder.trace(tree, self._since_pass) for tree, recorder in zip(self.trees, self._recorders, strict=True)
        ]

    def _step(self, running: list[list[int]]) -> None:
        pass

    def _start_draft(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        pass

    def _grow(self, running: list[list[int]]) -> list[list[int]]:
        """Nodes to verify in the next pass, in the order of their ranking."""
        return [[] for _ in running]

    def _pass(self, running: list[list[int]], missing: list[list[int]]) -> None:
        """One pass of the target over the missing nodes and those that the draft grows under `running`."""
        began = time.perf_counter()
        # a prompt that lacks nothing needs no candidates yet
        growing = [nodes if lacks else [] for nodes, lacks in zip(running, missing, strict=True)]
        drafted = self._grow(growing)
        self._forward(running, missing, drafted, began)

    def _forward(
        self, running: list[list[int]], missing: list[list[int]], drafted: list[list[int]], began: float
    ) -> None:
        self.draft.compact(running)
        drawn = time.perf_counter()
        self.scorer.compact(running)
        nodes = [sorted({*asked, *more}) for asked, more in zip(missing, drafted, strict=True)]
        rows = self.scorer.score(nodes)
        if self.scorer.states is not None:
            states = [states[: len(asked)] for states, asked in zip(self.scorer.states, nodes, strict=True)]
            self.draft.read_states(torch.cat(states), nodes)
        self._record(rows, nodes)
        done = time.perf_counter()
        self.stats.draft_s += drawn - began
        self.stats.target_s += done - drawn
        self.stats.drafted += sum(map(len, drafted))
        for b, (asked, more) in enumerate(zip(missing, drafted, strict=True)):
            if self._trace and (asked or more):
                self._recorders[b].rounds.append(TraceRound(asked, more, self.stats.steps, drawn - began, done - drawn))

    def _record(self, rows: Tensor, nodes: list[list[int]]) -> None:
        """Put the target's answers into the trees; rows as `TreeScorer.score` returns them."""
        self._template = rows[0]
        full = rows.float()
        normalizers = full.logsumexp(-1)
        kept = full.topk(min(_KEPT, full.shape[-1]))
        log_probs = (kept.values - normalizers[:, None]).tolist()
        answers = zip(rows, normalizers.tolist(), kept.indices.tolist(), log_probs, strict=True)
        for b, asked in enumerate(nodes):
            for node in asked:
                row, normalizer, tokens, scores = next(answers)
                if not -1e30 < normalizer < 1e30:
                    raise ValueError(
                        f"{type(self.scorer.model).__name__} gave logits that are NaN or infinite after "
                        f"{self.trees[b].depths[node]} new tokens. Load it in a wider dtype (float32 or bfloat16 "
                        "instead of float16), or check its weights."
                    )
                self.trees[b].record(node, row, normalizer, Verdict(tokens, scores))
            self.draft.observe(b, asked)

    def _close_pass(self) -> None:
        if self._since_pass:
            self.stats.accepted[self._since_pass] += 1
            for recorder in self._recorders:
                if recorder.rounds and not recorder.rounds[-1].steps:
                    recorder.rounds[-1].steps = self._since_pass
            self._since_pass = 0


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
        self._costs = cost_curve(target) if num_assistant_tokens is None else None
        self._shares: list[float] = []  # of the foretold seconds that a pass took
        self._budget: Budget | None = None
        self.draft = NoDraft() if num_assistant_tokens == 0 else draft
        super().__init__(target, trace)

    def _start_draft(self, input_ids: Tensor, attention_mask: Tensor) -> None:
        self._budget = Budget(self._costs, self.num_beams) if self._costs else None
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
        if self._budget is not None:
            self._budget.planned(rankings, time.perf_counter() - began)
        return [ranking.nodes[:count] for ranking in rankings]

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

        For searches that draw their own candidates; `began` is when they started drawing (`time.perf_counter`).
        """
        missing = [
            [node for node in nodes if tree.logits(node) is None]
            for tree, nodes in zip(self.trees, standing, strict=True)
        ]
        if any(missing) or any(chains):
            self._close_pass()
            self._forward(standing, missing, chains, began)

    def commit(self, b: int, node: int) -> None:
        """Prompt `b` takes the step at `node`: for searches whose prompts move at their own pace."""
        self.trees[b].release(self.trees[b].depths[node])
        if self._trace:
            self._recorders[b].steps.append([node])
        self._commit([node if each == b else best for each, best in enumerate(self._best)])

    def finish(self) -> Stats:
        self.stats.draft_passes = self.draft.passes - self._draft_passes
        doubt(self.scorer.model, self._shares)
        return super().finish()
