"""Source: where a search gets next-token logits from. The search cannot tell whether a draft had a part in them.

When the search asks for a node that the tree has not scored, the draft expands candidates under all running sequences
first, and one pass of the target verifies them along with the missing nodes. Then the source answers from the tree for
as many steps as the draft foresaw. Every pass scores at least what the search lacks, so target passes <= search steps
for any draft; and the answers are the target's own, so the result is the same (by induction over the steps). Without a
draft a pass scores just what the search lacks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .draft import Draft, NoDraft
from .expand import DraftSize, expand
from .scorer import TOP_TOKENS, Output, Request, TreeScorer
from .stats import Observer, Stats
from .tree import ROOT, TokenTree, Tops, TopTokens

Nodes = list[list[int]]  # a list of nodes a prompt


def give_up(error: Exception, nodes: Nodes, drafted: Nodes) -> None:
    """What a source does about a pass that failed, unless it is told otherwise: nothing."""
    raise error


class Source:
    """Answers a search from a token tree that a draft expands and the target verifies.

    Args:
        scorer: scores nodes with the target.
        draft: what proposes nodes; None proposes nothing.
        draft_size: how many drafted nodes a pass verifies for each prompt.
        observers: are told of every pass and step; what they raise ends the decode.
        recover: called with the error of a pass that failed, its nodes, and the drafted ones among them. It raises, or
            cuts `drafted` short in place for another attempt.
    """

    def __init__(
        self,
        scorer: TreeScorer,
        draft: Draft | None = None,
        draft_size: DraftSize | None = None,
        observers: Sequence[Observer] = (),
        recover: Callable[[Exception, Nodes, Nodes], None] = give_up,
    ):
        self.scorer, self.draft = scorer, draft or NoDraft()
        self.draft_size = DraftSize(0) if draft is None or draft_size is None else draft_size
        self.observers, self._recover = observers, recover
        self.stats = Stats()
        self.trees: list[TokenTree] = []
        self._draft_passes = self.draft.passes
        self._since_pass = 0  # steps committed since the last pass
        self._began = time.perf_counter()

    def start(self, request: Request) -> list[TokenTree]:
        """Read the prompts; returns a tree a prompt."""
        self._began = began = time.perf_counter()
        self.request = request
        masks = request.attention_mask.bool()
        self.trees = [TokenTree(ids[mask].tolist()) for ids, mask in zip(request.input_ids, masks, strict=True)]
        output = self.scorer.start(self.trees, request)
        self._blank = torch.zeros_like(output.logits[0])
        self.vocabulary, known = output.logits.shape[-1], output.top_tokens.shape[-1]
        self._blank_tops = Tops(np.arange(known), np.full(known, -math.log(self.vocabulary), np.float32))
        self.draft_size.start(request.num_beams)
        self.draft.start(self.trees, request.input_ids, request.attention_mask)
        if output.states is not None:
            self.draft.read_states(output.states, None)
        self._record(output, [[ROOT] for _ in self.trees])
        self.stats.prefill_s = self.stats.target_s = time.perf_counter() - began
        for observer in self.observers:
            observer.started(self)
        return self.trees

    def logits(self, running: Nodes) -> Tensor:
        """Commits a step (`step`) and reads all of its rows (`rows`)."""
        self.step(running)
        return self.rows(running)

    def step(self, running: Nodes) -> None:
        """Commits a step of the search from the running nodes of every prompt, which can then be read.

        All prompts have the same number of rows, or none: a finished prompt is not forwarded.
        """
        self.draft_size.stepped(self.trees, running)
        missing = self._missing(running)
        if any(missing):
            began = time.perf_counter()
            # prompts that lack nothing are drafted for as well: their rows are part of the pass anyhow, and the next
            # pass is due as soon as any prompt lacks something
            self._forward(running, missing, self._drafted(running, missing), began)
        for tree, nodes in zip(self.trees, running, strict=True):
            if nodes:
                tree.release(tree.depths[nodes[0]])
        self.stats.steps += 1
        self._since_pass += 1
        for observer in self.observers:
            observer.stepped(self, dict(enumerate(running)))

    def rows(self, running: Nodes) -> Tensor:
        """The target's logits for the nodes of the last step, shape (batch, rows, vocabulary); zeros where finished."""
        rows = self._each(running, TokenTree.logits, self._blank)
        return torch.stack(rows).unflatten(0, (len(running), -1))

    def tops(self, running: Nodes) -> Tops:
        """The likeliest tokens for the nodes of the last step, each of shape (batch, rows, k); made up where finished.

        k is what the request wants, or the vocabulary. These are always at hand: logits may have to be fetched.
        """
        found = zip(*self._each(running, TokenTree.tops, self._blank_tops), strict=True)
        return Tops(*[np.stack(rows).reshape(len(running), -1, rows[0].size) for rows in found])

    def _each(self, running: Nodes, read: Callable[[TokenTree, int], Any], blank: Any) -> list[Any]:
        """What the trees hold for every row, prompt after prompt."""
        width = max(map(len, running))
        return [
            row
            for tree, nodes in zip(self.trees, running, strict=True)
            for row in ([read(tree, node) for node in nodes] or [blank] * width)
        ]

    def verify(self, running: Nodes, chains: Nodes, began: float) -> None:
        """One pass over drafted `chains` of nodes, and the running nodes where they are not scored yet.

        For searches that draw their own candidates; `began` is when they started drawing (`time.perf_counter`). Where
        memory does not suffice the chains are cut short, in place.
        """
        missing = self._missing(running)
        if any(missing) or any(chains):
            self._forward(running, missing, chains, began)

    def max_depth(self, running: Nodes) -> int:
        """The deepest node that a pass for these running nodes may hold; they are all at one depth."""
        last, reach = self.request.max_new_tokens - 1, self.request.reach
        if reach is None:
            return last
        return min(last, *[reach(t.depths[n[0]]) for t, n in zip(self.trees, running, strict=True) if n])

    def finish(self) -> Stats:
        """The decode is over, or was abandoned: complete the statistics, and free what was kept for it."""
        stats, scorer = self.stats, self.scorer
        self._close_pass()
        stats.decode_s = time.perf_counter() - self._began - stats.prefill_s
        stats.target_passes, stats.peak_kv_tokens = scorer.passes, scorer.peak_slots
        stats.target_tokens, stats.engine = scorer.engine.tokens, scorer.engine.runtime
        stats.draft_passes = self.draft.passes - self._draft_passes
        try:
            self.draft.finish()
            self.draft_size.finish()
        finally:
            scorer.engine.close()
        return stats

    def _missing(self, running: Nodes) -> Nodes:
        return [
            sorted({node for node in nodes if tree.logits(node) is None})
            for tree, nodes in zip(self.trees, running, strict=True)
        ]

    def _drafted(self, running: Nodes, missing: Nodes) -> Nodes:
        """Nodes to verify in the next pass beyond the missing ones, likeliest first."""
        began = time.perf_counter()
        nodes = min(self.draft_size.choose(len([b for b, some in enumerate(running) if some])), self.draft_size.most)
        if not nodes:
            return [[] for _ in running]
        for b, some in enumerate(running):
            self.draft.follow(b, some)
        rankings = expand(
            self.trees,
            running,
            self.draft,
            num_beams=self.request.num_beams,
            draft_size=nodes,
            max_depth=self.max_depth(running),
            stop_tokens=self.request.stop_tokens,
            vocabulary=self.vocabulary,
            allowed=self.request.allowed,
        )
        return self.draft_size.cut(rankings, nodes, [*map(len, missing)], time.perf_counter() - began)

    def _forward(self, running: Nodes, missing: Nodes, drafted: Nodes, began: float) -> None:
        """One pass over the missing and the drafted nodes, which have been drafted since `began`."""
        self._close_pass()
        self.draft.compact(running)
        drawn = time.perf_counter()
        self.scorer.compact(running)
        output = None
        while output is None:
            nodes = [sorted({*asked, *more}) for asked, more in zip(missing, drafted, strict=True)]
            try:
                output = self.scorer.score(nodes)
            except (RuntimeError, MemoryError) as error:
                self._recover(error, nodes, drafted)
        if output.states is not None:
            self.draft.read_states(output.states, nodes)
        self._record(output, nodes)
        draft_s, target_s = drawn - began, time.perf_counter() - drawn
        self.stats.draft_s += draft_s
        self.stats.target_s += target_s
        self.stats.drafted += sum(map(len, drafted))
        self.draft_size.passed(max(map(len, nodes)) * len(self.scorer.rows), target_s)
        for observer in self.observers:
            observer.passed(self, missing, drafted, draft_s, target_s)

    def _record(self, output: Output, nodes: Nodes) -> None:
        """Put the target's scores into the trees; rows in the order of the nodes, prompt after prompt."""
        tops = map(Tops, output.top_tokens, output.top_log_probs)
        few = [each[:, :TOP_TOKENS].tolist() for each in (output.top_tokens, output.top_log_probs)]
        rows = zip(output.logits, output.log_normalizers, map(TopTokens, *few), tops, strict=True)
        for b, (tree, scored) in enumerate(zip(self.trees, nodes, strict=True)):
            for node in scored:
                logits, log_normalizer, top, wide = next(rows)
                if not -1e30 < log_normalizer < 1e30:
                    where = f" of prompt {b + 1} of {len(nodes)}" if len(nodes) > 1 else ""
                    raise ValueError(
                        f"{self.scorer.engine.name} gave logits that are NaN or infinite after {tree.depths[node]} new "
                        f"tokens{where}. Load it in a wider dtype (float32 or bfloat16 instead of float16), or check "
                        "its weights."
                    )
                tree.record(node, logits, log_normalizer, top, wide)
            self.draft.observe(b, scored)

    def _close_pass(self) -> None:
        """The steps that the last pass paid for are taken."""
        if self._since_pass:
            self.stats.accepted[self._since_pass] += 1
        self._since_pass = 0
