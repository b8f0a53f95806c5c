"""TorchEngine: what it hands to a model, beside masks and positions that other tests look at."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes import HashConfig, HashLM
from scoring import scorer_over

from specbeam.core.scorer import Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree
from specbeam.engines import torch_engine
from specbeam.engines.sequences import SequenceEngine
from specbeam.engines.torch_engine import TorchEngine


class Tinted(HashLM):
    """Notes a further input of its passes."""

    def forward(self, input_ids: torch.Tensor, *args: Any, tint: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        self.__dict__.setdefault("seen", []).append((tuple(input_ids.shape), tint))
        return super().forward(input_ids, *args, **kwargs)


def test_further_inputs_of_a_request_reach_the_pass_over_the_prompts_whole_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_engine, "CHUNK", 2)
    model: Any = Tinted(HashConfig()).eval()
    tree, ids, tint = TokenTree([1, 2, 3, 4, 5]), torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[7.0]])
    scorer = TreeScorer(TorchEngine(model))
    scorer.start([tree], Request(ids, torch.ones_like(ids), model_inputs={"tint": tint}))
    scorer.score([[tree.child(ROOT, 9)]])
    assert model.seen == [((1, 5), tint), ((1, 1), None)]
    with pytest.raises(ValueError, match="tint"):
        SequenceEngine(model).prefill(Request(ids, torch.ones_like(ids), model_inputs={"tint": tint}))


def test_the_cache_of_a_decode_that_is_over_is_freed() -> None:
    model: Any = Tinted(HashConfig()).eval()
    tree = TokenTree([1, 2, 3])
    scorer, _ = scorer_over(model, [tree], torch.tensor([tree.prompt]), torch.ones(1, 3, dtype=torch.long))
    assert scorer.engine.cache.layers  # type: ignore[attr-defined]
    scorer.engine.close()
    assert not scorer.engine.cache.layers  # type: ignore[attr-defined]
