"""Whether a session computes what PyTorch computes: padded prompts of different lengths, then a pass over a tree.

Windows are made as small as the prompt for this, so that what they hide is tried too. It takes two small passes of
either engine.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from specbeam.core.scorer import Engine, Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree

from .families import Traits
from .onnx_engine import OnnxEngine
from .onnx_session import Session
from .probe import NOISE, distance, tiny_texts
from .torch_engine import TorchEngine

_WINDOW = 3  # tokens


@torch.inference_mode()
def off_by(session: Session, model: PreTrainedModel, traits: Traits) -> float:
    """How far the session's logits and hidden states are from PyTorch's, as a share of their spread; inf for NaN."""
    small = replace(traits, windows=dict.fromkeys(traits.windows, _WINDOW))
    layers = session.layout.state_layers
    wanted = sample_passes(TorchEngine(model, layers, small), model)
    found = sample_passes(OnnxEngine(session, model, layers, small), model)
    apart = [distance(one, other) for one, other in zip(found, wanted, strict=True)]
    return max(float("inf") if each is None else each for each in apart)


def is_noise(off: float) -> bool:
    """Whether two engines that differ by so much differ by rounding in float32 alone."""
    return off <= NOISE[torch.float32]


def sample_passes(engine: Engine, model: PreTrainedModel) -> list[Tensor]:
    """Logits, then hidden states of each layer, at the ends of two prompts and of two branches behind each."""
    prompt, branches = tiny_texts(model)
    prompts = [prompt[:1], [*branches[1], *prompt]]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(each)) + each for each in prompts])
    mask = torch.tensor([[0] * (width - len(each)) + [1] * len(each) for each in prompts])
    trees, scorer = [TokenTree(each) for each in prompts], TreeScorer(engine)
    ends = scorer.start(trees, Request(ids, mask))
    verified = scorer.score([_nodes(tree, branches) for tree in trees])
    engine.close()
    found = [ends.logits, verified.logits]
    for output, states in ((ends, ends.states), (verified, verified.states)):
        if states is not None:
            found += (states[:, -1] if output is ends else states).unbind(-2)
    return found


def _nodes(tree: TokenTree, branches: list[list[int]]) -> list[int]:
    nodes = []
    for branch in branches:
        node = ROOT
        for token in branch:
            nodes.append(node := tree.child(node, token))
    return nodes
