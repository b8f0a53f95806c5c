"""What the target wrote: its hidden states are those of a plain pass, and a shard comes out the same every time."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import AFTER, BEFORE, PASSAGE, WORDS, chat_tokenizer, tiny_llama

from specbeam.drafts.eagle_model import EagleConfig
from specbeam.models.stopping import stop_tokens
from specbeam.training import prompts_and_answers
from specbeam.training.prompts_and_answers import (
    OPENINGS,
    TEMPERATURES,
    questions,
    summaries,
    template_parts,
    write_shard,
)
from specbeam.training.shards import Shards

ROWS, LENGTH = 16, 100
GREEDY = [row for row in range(ROWS) if TEMPERATURES[row // 2 % len(TEMPERATURES)] == 0]


@pytest.fixture(scope="module")
def target() -> Any:
    return tiny_llama(layers=6)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return chat_tokenizer()


def written(target: Any, tokenizer: Any, folder: Path, shard: int = 0, **options: Any) -> dict[str, torch.Tensor]:
    write_shard(target, tokenizer, folder, shard, rows=ROWS, length=LENGTH, **options)
    return load_file(folder / f"{shard:05d}.safetensors")


def texts(shard: dict[str, torch.Tensor]) -> list[list[int]]:
    return [row[:end] for row, end in zip(shard["tokens"].tolist(), shard["ends"].tolist(), strict=True)]


def answer_begins(text: list[int]) -> int | None:
    """Where the answer begins, None if the text ends within the question."""
    places = [at for at in range(len(BEFORE), len(text)) if text[at : at + len(AFTER)] == AFTER]
    return places[0] + len(AFTER) if places else None


def plain_pass(target: Any, text: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states (length, layers, hidden size) and logits (length, vocabulary) of one text by itself."""
    with torch.no_grad():
        output = target(torch.tensor([text]), output_hidden_states=True)
    layers = EagleConfig.for_target(target).layers
    return torch.stack([output.hidden_states[layer][0] for layer in layers], 1), output.logits[0]


def test_features_are_the_hidden_states_of_a_plain_pass_also_once_other_rows_have_left(
    target, tokenizer, tmp_path, monkeypatch
) -> None:
    left: list[int] = []
    select = prompts_and_answers._select
    monkeypatch.setattr(
        prompts_and_answers, "_select", lambda cache, rows: (left.append(len(rows)), select(cache, rows))
    )
    shard = written(target, tokenizer, tmp_path)
    assert min(left) < ROWS / 2  # rows were taken out
    assert EagleConfig.for_target(target).layers == (2, 4, 6)
    assert shard["features"].shape == (ROWS, LENGTH, 3, 32)
    for text, features in zip(texts(shard), shard["features"], strict=True):
        states, _ = plain_pass(target, text)
        torch.testing.assert_close(features[: len(text)], states.float(), atol=1e-5, rtol=1e-5)


def test_a_question_is_followed_by_the_templates_suffix_and_every_other_one_has_an_opening(
    target, tokenizer, tmp_path
) -> None:
    assert template_parts(tokenizer) == (BEFORE, AFTER)
    openings = [tokenizer(opening)["input_ids"] for opening in OPENINGS]
    for index, text in enumerate(texts(written(target, tokenizer, tmp_path))):
        assert text[: len(BEFORE)] == BEFORE
        begin = answer_begins(text)
        assert begin is not None
        question = text[len(BEFORE) : begin - len(AFTER)]
        assert AFTER[0] not in question and len(question) <= prompts_and_answers._LONGEST_QUESTION
        if index % 2:
            assert any(question[: len(opening)] == opening for opening in openings)


def test_greedy_rows_go_on_with_the_targets_likeliest_token_until_it_ends(target, tokenizer, tmp_path) -> None:
    judged = 0
    for index, text in enumerate(texts(written(target, tokenizer, tmp_path))):
        begin = answer_begins(text)
        assert begin is not None
        likeliest = plain_pass(target, text)[1].argmax(-1).tolist()
        follows = likeliest[begin - 1 : -1] == text[begin:]
        if index in GREEDY:
            judged += len(text) - begin
            assert follows
            assert len(text) == LENGTH or likeliest[-1] in stop_tokens(target)
    assert judged > 50


def test_a_number_and_a_seed_give_the_same_shard_whatever_was_written_before(target, tokenizer, tmp_path) -> None:
    options: dict[str, Any] = {"rows": 4, "length": 30}
    for folder, numbers, seed in (("both", [0, 1], 0), ("one", [1], 0), ("other", [1], 1)):
        for number in numbers:
            write_shard(target, tokenizer, tmp_path / folder, number, seed=seed, **options)
    both, one, other = ((tmp_path / name / "00001.safetensors").read_bytes() for name in ("both", "one", "other"))
    assert both == one
    assert both != other
    assert both != (tmp_path / "both" / "00000.safetensors").read_bytes()


def test_an_existing_shard_is_left_as_it_is_and_does_not_count(target, tokenizer, tmp_path) -> None:
    there = tmp_path / "00000.safetensors"
    there.write_bytes(b"mine")
    assert write_shard(target, tokenizer, tmp_path, 0, rows=4, length=30) == 0
    assert there.read_bytes() == b"mine"
    written = write_shard(target, tokenizer, tmp_path, 1, rows=4, length=30)
    assert written == int(load_file(tmp_path / "00001.safetensors")["ends"].sum()) > 0


def test_an_interrupted_write_leaves_no_half_shard(target, tokenizer, tmp_path, monkeypatch) -> None:
    def interrupted(descriptor: int) -> None:
        os.ftruncate(descriptor, 100)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "fsync", interrupted)
        write_shard(target, tokenizer, tmp_path, 0, rows=4, length=30)
    with pytest.raises(ValueError, match="holds no shards; write some with `specbeam distill`"):
        Shards(tmp_path).paths()
    written = write_shard(target, tokenizer, tmp_path, 0, rows=4, length=30)
    assert Shards(tmp_path).positions() == written


def test_every_fourth_shard_summarises_passages_cut_to_one_length(target, tokenizer, tmp_path) -> None:
    passages = [PASSAGE, "river " + PASSAGE]
    for shard in (2, 3):
        found = texts(written(target, tokenizer, tmp_path, shard, passages=passages))
        begins = {answer_begins(text) for text in found}
        assert all(text[: len(BEFORE)] == BEFORE for text in found)
        if shard == 3:
            (begin,) = begins
            assert len(found) == ROWS // 2 and begin is not None and 120 <= begin <= 360
            river = WORDS.index("river")
            assert all(text.count(river) > 10 for text in found)


def test_passages_too_short_to_be_cut_are_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match="give longer ones"):
        summaries(tokenizer, ["It rains", "a river is long"], 4, 120, random.Random(0))


def test_without_a_template_a_text_begins_with_the_first_token_and_asks_nothing(target, tmp_path) -> None:
    tokenizer = chat_tokenizer(template=None)
    assert template_parts(tokenizer) == ([1], [])
    _, rows = questions(tokenizer, 4, random.Random(0))
    assert not any(row.asking for row in rows)
    assert all(text[0] == 1 for text in texts(written(target, tokenizer, tmp_path)))


def test_a_template_that_does_not_show_what_a_user_says_exactly_once_is_refused() -> None:
    for template in ("{{ bos_token }} hello", "{{ bos_token }}{{ messages[0]['content'] * 2 }}"):
        with pytest.raises(ValueError, match="chat template"):
            template_parts(chat_tokenizer(template))
