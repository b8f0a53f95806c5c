"""Scorers for tests that read trees without a source, and an engine whose passes can be made to fail."""

from __future__ import annotations

from typing import Any

import torch

from specbeam.core.scorer import Output, Request, TreePass, TreeScorer
from specbeam.core.tree import TokenTree
from specbeam.engines.torch_engine import TorchEngine


def scorer_over(
    model: Any, trees: list[TokenTree], ids: torch.Tensor, mask: torch.Tensor, layers: tuple[int, ...] = ()
) -> tuple[TreeScorer, Output]:
    """A scorer that has read the prompts, and what it gave at the roots."""
    scorer = TreeScorer(Unlucky(TorchEngine(model, layers)))  # type: ignore[arg-type]
    return scorer, scorer.start(trees, Request(ids, mask))


class Unlucky:
    """Forwards as `engine` does; a pass fails after it has written to the cache while `failing` is set."""

    failing = False

    def __init__(self, engine: Any):
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def forward(self, tree_pass: TreePass) -> Output:
        output = self.engine.forward(tree_pass)
        if self.failing:
            raise RuntimeError("the pass failed")
        return output


def fail(scorer: TreeScorer, nodes: list[list[int]]) -> None:
    """A pass over `nodes` that fails after it has written to the cache."""
    scorer.engine.failing = True  # type: ignore[attr-defined]
    try:
        scorer.score(nodes)
    except RuntimeError:
        scorer.engine.failing = False  # type: ignore[attr-defined]
        return
    raise AssertionError("the pass was to fail")
