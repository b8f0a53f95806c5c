"""Beam searches as training texts: every node once, with the states of a plain pass over its sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import AFTER, BEFORE, chat_tokenizer, tiny_llama

import specbeam as sb
from specbeam.decoding.trace import Trace, TraceNode
from specbeam.drafts.eagle_model import EagleConfig
from specbeam.models.prompts import render_prompt
from specbeam.training.beam_texts import branches, questions_of, write_beam_shard
from specbeam.training.prompts_and_answers import write_shard
from specbeam.training.shards import Shards
from specbeam.training.training import judged

LAYERS = 4


@pytest.fixture(scope="module")
def pair() -> sb.Pair:
    return sb.Pair(tiny_llama(torch.float32, layers=LAYERS), None, chat_tokenizer(), "tiny", {})


@pytest.fixture(scope="module")
def folder(pair: sb.Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text shard, and the searches from eight of its prompts."""
    folder = tmp_path_factory.mktemp("texts")
    write_shard(pair.target, pair.tokenizer, folder, 0, rows=16, length=100)
    layers = EagleConfig.for_target(pair.target).layers
    options: dict[str, Any] = {"prompts": 10, "num_beams": (2, 3), "max_new_tokens": 8}
    nodes = write_beam_shard(pair, folder, 0, layers, **options)
    stamp = (folder / "beams-00000.safetensors").stat().st_mtime_ns
    assert nodes == write_beam_shard(pair, folder, 0, layers, **options) > 0
    assert stamp == (folder / "beams-00000.safetensors").stat().st_mtime_ns
    return folder


def test_branches_hold_every_node_that_was_visited_once_as_their_own() -> None:
    parents = [-1, 0, 0, 1, 1, 2, 3, 4, 7]
    nodes = [TraceNode(10 + at, parent, 0, 0.0) for at, parent in enumerate(parents)]
    trace = Trace(nodes, [], [[0], [1, 2], [3, 4], [6, 7], [8]])  # 5 was only drafted
    assert branches(trace) == [([0, 1, 4, 7, 8], 0), ([0, 1, 3, 6], 2), ([0, 2], 1)]


def test_a_branch_has_the_tokens_of_a_search_and_the_states_of_a_plain_pass(pair: sb.Pair, folder: Path) -> None:
    shard, layers = load_file(folder / "beams-00000.safetensors"), EagleConfig.for_target(pair.target).layers
    assert shard["nodes"].max() < len(shard["states"])
    for tokens, nodes, end in zip(
        shard["tokens"].tolist(), shard["nodes"].tolist(), shard["ends"].tolist(), strict=True
    ):
        with torch.no_grad():
            output = pair.target(torch.tensor([tokens[:end]]), output_hidden_states=True)
        expected = torch.stack([output.hidden_states[layer][0] for layer in layers], 1)
        torch.testing.assert_close(shard["states"][nodes[:end]].float(), expected, atol=0.03, rtol=0.02)  # bfloat16


def test_every_node_is_judged_in_one_row(folder: Path) -> None:
    shard = load_file(folder / "beams-00000.safetensors")
    own = [
        node
        for nodes, begin, end in zip(*(shard[name].tolist() for name in ("nodes", "begins", "ends")), strict=True)
        for node in nodes[begin:end]
    ]
    assert len(own) == len(set(own))
    questions = {tuple(one) for one in questions_of(folder / "00000.safetensors", AFTER)}
    assert len(shard["states"]) == len(own) + sum(
        begin for begin, tokens in zip(shard["begins"].tolist(), shard["tokens"].tolist(), strict=True)
        if tuple(tokens[: begin + 1]) in questions
    )  # fmt: skip


def test_the_searches_are_those_of_beam_search(pair: sb.Pair, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "00000.safetensors").write_bytes((folder / "00000.safetensors").read_bytes())
    layers = EagleConfig.for_target(pair.target).layers
    write_beam_shard(pair, tmp_path, 0, layers, prompts=6, num_beams=(3,), max_new_tokens=8)
    shard = load_file(tmp_path / "beams-00000.safetensors")
    known = {tuple(one) for one in questions_of(folder / "00000.safetensors", AFTER)}
    rows = [tokens[:end] for tokens, end in zip(shard["tokens"].tolist(), shard["ends"].tolist(), strict=True)]
    trunks = [row[: begin + 1] for row, begin in zip(rows, shard["begins"].tolist(), strict=True)]
    prompts = sorted((list(one) for one in known & {tuple(one) for one in trunks}), key=len)
    assert len(prompts) > 2
    for prompt in prompts:
        ids = torch.tensor([prompt])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        (trace,) = sb.beam(pair, inputs, num_beams=3, max_new_tokens=8, trace=True).trace or []
        visited = {tuple(trace.nodes[n].token for n in trace.path(node)) for step in trace.steps for node in step}
        after = [row[len(prompt) :] for row in rows if row[: len(prompt)] == prompt]
        assert {tuple(row[:length]) for row in after for length in range(len(row) + 1)} == visited


def test_texts_without_an_answer_are_searched_from_in_vain(pair: sb.Pair, folder: Path, tmp_path: Path) -> None:
    shard = load_file(folder / "00000.safetensors")
    save_file({**shard, "ends": shard["ends"].clamp(max=len(BEFORE))}, tmp_path / "00000.safetensors")
    assert write_beam_shard(pair, tmp_path, 0, EagleConfig.for_target(pair.target).layers) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["00000.safetensors"]


def test_prompts_are_the_texts_up_to_the_answer(folder: Path) -> None:
    for prompt in questions_of(folder / "00000.safetensors", AFTER):
        assert prompt[: len(BEFORE)] == BEFORE and prompt[-len(AFTER) :] == AFTER
    assert all(len(prompt) == 16 for prompt in questions_of(folder / "00000.safetensors", []))


def test_batches_of_searches_judge_a_rows_own_part(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "00000.safetensors").write_bytes((folder / "beams-00000.safetensors").read_bytes())
    shard = load_file(tmp_path / "00000.safetensors")
    batch = Shards(tmp_path).batch(10_000)
    assert batch["tokens"].shape == shard["tokens"].shape
    torch.testing.assert_close(batch["features"], shard["states"][shard["nodes"].long()])
    _, wanted = judged(batch, 1, 1.0, torch.Generator())
    assert wanted.sum(1).tolist() == (shard["ends"] - shard["begins"].clamp(min=1)).tolist()


def test_text_shards_and_searches_are_drawn_from_alike(folder: Path) -> None:
    shards = Shards(folder)
    kinds = {"begins" in shards.batch(50) for _ in range(20)}
    assert kinds == {True, False}


def test_rendered_prompts_end_as_questions_do(pair: sb.Pair) -> None:
    assert render_prompt(pair.tokenizer, "a river")["input_ids"][0].tolist()[-len(AFTER) :] == AFTER
