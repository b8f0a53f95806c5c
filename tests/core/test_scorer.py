"""TreeScorer: a tree's logits are those of a plain forward pass over each path, before and after compaction."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from specbeam.core.scorer import Request, TreeScorer
from specbeam.core.tree import ROOT, TokenTree
from specbeam.engines.sequences import SequenceEngine
from specbeam.engines.target import Target
from specbeam.engines.torch_engine import TorchEngine

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
    trees = [TokenTree(prompt) for prompt in PROMPTS]
    ids = torch.tensor([PROMPTS[0], [0, 0, 0, *PROMPTS[1]]])
    mask = torch.tensor([[1] * 5, [0, 0, 0, 1, 1]])
    scorer = TreeScorer(TorchEngine(model))
    roots = scorer.start(trees, Request(ids, mask)).logits
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
        check(model, trees, nodes, scorer.score(nodes).logits)
        standing = [some[:2] for some in nodes]
        scorer.compact(standing)
        used.append(scorer._used)
    assert max(used) < sum(map(len, trees)) / 2  # slots were given up
    assert any(later < earlier for earlier, later in pairwise(used))


def test_a_model_that_counts_in_slots_is_read_by_sequences_and_the_reason_names_what_counts() -> None:
    config = AutoConfig.for_model("mpt", vocab_size=16, d_model=8, n_layers=1, n_heads=1)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.warns(UserWarning, match=r"MptForCausalLM cannot verify a token tree: its ALiBi .* slots"):
        assert isinstance(Target.of(model).engine(), SequenceEngine)


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention"])
def test_attention_that_takes_no_mask_is_refused_with_the_way_out(attention: str) -> None:
    model = tiny("llama")
    model.config._attn_implementation_internal = attention
    with pytest.raises(ValueError, match=f"LlamaForCausalLM.*{attention}.*attn_implementation='sdpa'"):
        Target.of(model)


def test_attention_that_is_changed_after_a_decode_is_refused_as_well() -> None:
    model = tiny("llama")
    Target.of(model).engine()
    model.config._attn_implementation_internal = "flash_attention_2"
    for _ in range(2):
        with pytest.raises(ValueError, match=r"flash_attention_2.*attn_implementation='sdpa'"):
            Target.of(model).engine()


def test_an_encoder_decoder_is_refused() -> None:
    config = T5Config(vocab_size=16, d_model=8, d_ff=8, d_kv=4, num_layers=1, num_heads=2)
    with pytest.raises(ValueError, match="T5ForConditionalGeneration is an encoder-decoder"):
        Target.of(T5ForConditionalGeneration(config))


def test_sequences_score_like_a_tree_and_keep_the_same_states() -> None:
    model = tiny("llama")
    ids, mask = torch.tensor([PROMPTS[0], [0, 0, 0, *PROMPTS[1]]]), torch.tensor([[1] * 5, [0, 0, 0, 1, 1]])
    trees = [TokenTree(prompt) for prompt in PROMPTS]
    scorers = TreeScorer(TorchEngine(model, (0, 2))), TreeScorer(SequenceEngine(model, (0, 2)))
    tree, sequences = (scorer.start(trees, Request(ids, mask)) for scorer in scorers)
    torch.testing.assert_close(tree.logits, sequences.logits)
    assert tree.states is not None and sequences.states is not None
    torch.testing.assert_close(tree.states[mask.bool()], sequences.states[mask.bool()])
    left, right = trees[0].child(ROOT, 3), trees[0].child(ROOT, 4)
    deep, other = trees[0].child(left, 5), trees[1].child(ROOT, 6)
    for nodes in ([[left, right], [other]], [[deep], []]):  # the second pass reads a parent that was scored before
        tree, sequences = (scorer.score(nodes) for scorer in scorers)
        torch.testing.assert_close(tree.logits, sequences.logits)
        assert tree.states is not None and tree.states.shape == (sum(map(len, nodes)), 2, 16)
        torch.testing.assert_close(tree.states, sequences.states)
    assert all(scorer.scored(0, node) for scorer in scorers for node in (ROOT, left, deep))


def test_decoding_by_sequences_says_so_once() -> None:
    config = AutoConfig.for_model("mamba", vocab_size=16, hidden_size=8, num_hidden_layers=1, state_size=4)
    model = AutoModelForCausalLM.from_config(config)
    with pytest.warns(UserWarning, match=r"MambaForCausalLM cannot verify a token tree: .*recurrent.* slower"):
        Target.of(model).engine()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(Target.of(model).engine(), SequenceEngine)
