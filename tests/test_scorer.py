"""TreeScorer: a tree's logits are those of a plain forward pass over each path, before and after compaction."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from specbeam.scorer import TreeScorer
from specbeam.tree import ROOT, TokenTree

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16},
    "mistral": {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 16,
        "sliding_window": 4,
    },
    "gpt2": {"n_embd": 16, "n_head": 2, "n_layer": 2},
}
PROMPTS = [[5, 6, 7, 8, 9], [11, 12]]


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    depth = {} if kind == "gpt2" else {"num_hidden_layers": 2}
    config = AutoConfig.for_model(kind, vocab_size=32, initializer_range=0.4, **depth, **KINDS[kind])
    return AutoModelForCausalLM.from_config(config).double().eval()


def started(model: Any) -> tuple[TreeScorer, list[TokenTree]]:
    scorer, trees = TreeScorer(model), [TokenTree(prompt) for prompt in PROMPTS]
    ids = torch.tensor([PROMPTS[0], [0, 0, 0, *PROMPTS[1]]])
    mask = torch.tensor([[1] * 5, [0, 0, 0, 1, 1]])
    roots = scorer.start(trees, ids, mask)
    for tree, row in zip(trees, roots, strict=True):
        torch.testing.assert_close(row, plainly(model, tree, ROOT))
    return scorer, trees


def plainly(model: Any, tree: TokenTree, node: int) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([tree.prompt + tree.path(node)])).logits[0, -1]


def check(model: Any, trees: list[TokenTree], nodes: list[list[int]], rows: torch.Tensor) -> None:
    asked = [(tree, node) for tree, some in zip(trees, nodes, strict=True) for node in some]
    for (tree, node), row in zip(asked, rows, strict=True):
        torch.testing.assert_close(row, plainly(model, tree, node))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_branching_tree_scores_like_a_plain_forward_of_every_path_also_after_compaction(kind: str) -> None:
    model = tiny(kind)
    scorer, trees = started(model)
    standing, generator = [[ROOT], [ROOT]], torch.Generator().manual_seed(1)
    used = []
    for _ in range(12):
        nodes: list[list[int]] = []
        for tree, running in zip(trees, standing, strict=True):
            size = len(tree)
            level = [tree.child(node, int(torch.randint(32, (), generator=generator))) for node in running * 3]
            level += [tree.child(node, 1) for node in level]
            nodes.append(sorted({node for node in level if node >= size}))
        nodes[1] = nodes[1][:-1]  # prompts need not ask for the same number
        check(model, trees, nodes, scorer.score(nodes))
        standing = [some[:2] for some in nodes]
        scorer.compact(standing)
        used.append(scorer._used)
    assert max(used) < sum(map(len, trees)) / 2  # slots were given up
    assert any(later < earlier for earlier, later in pairwise(used))


def test_attention_that_takes_no_tree_mask_is_refused() -> None:
    config = AutoConfig.for_model("bloom", vocab_size=16, hidden_size=8, n_layer=1, n_head=1)
    with pytest.raises(ValueError, match="ALiBi"):
        TreeScorer(AutoModelForCausalLM.from_config(config))
