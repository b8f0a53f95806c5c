"""A target under torch.compile: its passes over trees of any size come from few compilations, and the tokens stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_folders import save_llama
from torch._dynamo.utils import counters

import specbeam as sb

PROMPTS = torch.tensor([[3, 4, 5, 4, 3, 5], [4, 4, 5, 3, 3, 5], [5, 3, 4, 3, 5, 5]])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return Path(save_llama(tmp_path / "target", layers=1, dtype=torch.float64))


@pytest.fixture(autouse=True)
def forgotten() -> None:
    torch._dynamo.reset()
    counters.clear()


def decoded(pair: sb.Pair, **given: Any) -> list[Any]:
    options: dict[str, Any] = {"max_new_tokens": 12, "num_assistant_tokens": 7, "eos_token_id": None, **given}
    found = []
    for inputs in ({"input_ids": PROMPTS[:1]}, {"input_ids": PROMPTS}):
        for one in (
            sb.speculative(pair, inputs, **options),
            sb.speculative_beam(pair, inputs, num_beams=3, **options),
        ):
            found.append((one.sequences, one.scores))
    return found


def assert_alike(one: list[Any], other: list[Any]) -> None:
    for (sequences, scores), (others, other_scores) in zip(one, other, strict=True):
        assert sequences == others
        assert scores == pytest.approx(other_scores)


@pytest.mark.slow
def test_a_compiled_target_gives_the_same_tokens_from_few_compilations(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    options = {"dynamic": True, "backend": "eager"}
    pair = sb.load_pair(folder, draft="recall", device="cpu", compile=options)
    assert_alike(decoded(pair), decoded(sb.load_pair(folder, draft="recall", device="cpu")))
    compiled = counters["stats"]["unique_graphs"]
    assert 1 <= compiled <= 8 and not counters["graph_break"]  # one or more prompts, one or more rows, prompt or tree
    decoded(pair, num_assistant_tokens=11, max_new_tokens=30)
    assert counters["stats"]["unique_graphs"] == compiled


@pytest.mark.slow
def test_inductors_code_gives_the_same_tokens(folder: Path) -> None:
    pairs = [sb.load_pair(folder, draft="recall", device="cpu", compile=compiled) for compiled in (True, False)]
    assert_alike(*map(decoded, pairs))
    assert counters["stats"]["unique_graphs"]


@pytest.mark.parametrize("options", ["inductor", {"mood": "fast"}])
def test_what_torch_compile_does_not_know_is_named(folder: Path, options: Any) -> None:
    with pytest.raises(ValueError, match=r"compile=.*(none of True|mood)"):
        sb.load_pair(folder, device="cpu", compile=options)


def test_packed_weights_are_not_compiled(folder: Path) -> None:
    with pytest.raises(ValueError, match="packed weights cannot be compiled"):
        sb.load_pair(folder, device="cpu", packed=True, compile=True)
