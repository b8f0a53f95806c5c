"""Whatever happens to the file of a graph, a decode works: it is found, made anew, or done without."""

from __future__ import annotations

import errno
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import fake_pair

import specbeam as sb
from specbeam.engines import choice, onnx_store
from specbeam.engines.families import Traits
from specbeam.engines.onnx_export import exported, layout_of
from specbeam.engines.target import Target
from specbeam.evaluation.tiny_families import tiny_model

PROMPT = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}

pytestmark = pytest.mark.slow  # an export takes seconds


def llama() -> Any:
    model = tiny_model("llama").float()
    model.set_attn_implementation("sdpa")
    return model


@pytest.fixture(scope="module")
def graph() -> Any:
    model = llama()
    return exported(model, Traits.of(model), layout_of(model, Traits.of(model), ()))


@pytest.fixture
def exports(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An empty cache, and the hidden states of every export, which take no time."""
    made: list[Any] = []

    def export(model: Any, traits: Traits, layout: Any) -> Any:
        made.append(layout.state_layers)
        time.sleep(0.2)
        return graph

    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path))
    monkeypatch.setattr(onnx_store, "exported", export)
    return made


def decodes() -> bool:
    """Whether a new model decodes in ONNX Runtime, to the tokens of PyTorch."""
    model = llama()
    target = Target.of(model)
    wanted = sb.beam(fake_pair(model), PROMPT, num_beams=3, max_new_tokens=6)
    target.use_onnx()
    found = sb.beam(fake_pair(model), PROMPT, num_beams=3, max_new_tokens=6)
    return found.stats.engine == "onnx" and found.sequences == wanted.sequences


def file(folder: Path) -> Path:
    (found,) = (folder / "graphs").glob("*.onnx.z")
    return found


def test_a_second_model_of_the_same_shape_is_not_exported(exports: list[Any]) -> None:
    assert decodes() and decodes() and len(exports) == 1


def test_a_damaged_graph_is_made_anew(exports: list[Any], tmp_path: Path) -> None:
    assert decodes()
    for damage in (b"", file(tmp_path).read_bytes()[:-9], zlib.compress(b"no graph")):
        file(tmp_path).write_bytes(damage)
        assert decodes()
    assert len(exports) == 4


def test_a_graph_that_computes_something_else_is_made_anew(exports: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert decodes()
    answers = iter([1.0, 0.0])
    monkeypatch.setattr(onnx_store, "off_by", lambda *_: next(answers))
    assert decodes() and len(exports) == 2


def test_an_export_that_was_killed_leaves_nothing_that_is_taken_for_a_graph(exports: list[Any], tmp_path: Path) -> None:
    assert decodes()
    half = file(tmp_path).read_bytes()[:100]
    file(tmp_path).rename(tmp_path / "graphs" / f".{file(tmp_path).name}.1234.tmp")
    next((tmp_path / "graphs").glob(".*.tmp")).write_bytes(half)
    assert decodes() and len(exports) == 2


def test_a_full_disk_costs_an_export_and_no_decode(exports: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(onnx_store, "write_atomic", full)
    assert decodes() and decodes() and len(exports) == 2


def test_a_cache_that_cannot_be_written_to_costs_an_export_and_no_decode(
    exports: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPECBEAM_CACHE", str(tmp_path / "file"))  # no folder can be made in it
    assert decodes() and decodes() and len(exports) == 2


def test_two_that_want_a_graph_at_once_export_it_once(exports: list[Any]) -> None:
    answers: list[bool] = []
    threads = [threading.Thread(target=lambda: answers.append(decodes())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True, True] and len(exports) == 1


def test_graphs_of_another_version_are_left_alone(exports: list[Any], tmp_path: Path, monkeypatch: Any) -> None:
    assert decodes()
    monkeypatch.setattr(onnx_store, "_MADE_BY", ("torch",))
    assert decodes() and len(exports) == 2 and len(list((tmp_path / "graphs").glob("*.onnx.z"))) == 2


def test_hidden_states_that_a_graph_lacks_mean_another_export(exports: list[Any]) -> None:
    model = llama()
    Target.of(model).use_onnx()
    onnx_store.open_session(model, Traits.of(model), (1,))
    assert exports == [(), (1,)]


def test_pytorch_serves_with_one_line_where_a_graph_is_not_equal(
    exports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_store, "off_by", lambda *_: 0.5)
    model = llama()
    with pytest.warns(UserWarning, match="PyTorch serves LlamaForCausalLM.*off by 50 %"):
        assert not choice.choose_engine(Target.of(model), "onnx")
    assert sb.greedy(fake_pair(model), PROMPT, max_new_tokens=3).stats.engine == "torch"


def test_pytorch_serves_with_one_line_where_the_export_fails(exports: list[Any], monkeypatch: Any) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no such operator\nand a long explanation")

    monkeypatch.setattr(onnx_store, "exported", fails)
    with pytest.warns(UserWarning, match="its export fails .RuntimeError: no such operator.$"):
        assert not choice.choose_engine(Target.of(llama()), "onnx")


def test_a_hook_of_the_users_sends_a_model_back_to_pytorch(exports: list[Any]) -> None:
    model = llama()
    Target.of(model).use_onnx()
    model.model.layers[0].register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="runs in PyTorch from here on.*hooks"):
        found = sb.greedy(fake_pair(model), PROMPT, max_new_tokens=3)
    assert found.stats.engine == "torch"


def test_weights_that_were_trained_meanwhile_are_the_ones_that_decode(exports: list[Any]) -> None:
    model = llama()
    Target.of(model).use_onnx()
    with torch.no_grad():
        model.lm_head.weight.copy_(torch.randn_like(model.lm_head.weight))
    found = sb.beam(fake_pair(model), PROMPT, num_beams=3, max_new_tokens=6)
    Target.of(model).use_torch()
    wanted = sb.beam(fake_pair(model), PROMPT, num_beams=3, max_new_tokens=6)
    assert found.stats.engine == "onnx" and found.sequences == wanted.sequences and len(exports) == 1


def test_the_number_of_threads_is_that_of_pytorch(exports: list[Any]) -> None:
    model, threads = llama(), torch.get_num_threads()
    target = Target.of(model)
    target.use_onnx()
    try:
        torch.set_num_threads(threads + 1)
        sb.greedy(fake_pair(model), PROMPT, max_new_tokens=3)
        assert target.onnx is not None and target.onnx.threads == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_within_a_decode_pytorch_keeps_to_one_thread_and_other_threads_notice_nothing(exports: list[Any]) -> None:
    model, threads, seen = llama(), torch.get_num_threads(), []

    class Watching(sb.Draft):
        def propose(self, tree: Any, node: int) -> list[Any]:
            elsewhere = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            elsewhere.start()
            elsewhere.join()
            seen.append(torch.get_num_threads())
            return []

    try:
        torch.set_num_threads(3)
        Target.of(model).use_onnx()
        sb.speculative(fake_pair(model, Watching()), PROMPT, max_new_tokens=3, num_assistant_tokens=2)
        assert seen[:2] == [3, 1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_the_random_numbers_of_the_user_go_on_as_if_nothing_had_been_exported(exports: list[Any]) -> None:
    model = llama()
    torch.manual_seed(3)
    wanted = torch.get_rng_state()
    Target.of(model).use_onnx()
    assert torch.equal(torch.get_rng_state(), wanted)


def test_in_training_mode_pytorch_serves(exports: list[Any]) -> None:
    model = llama()
    Target.of(model).use_onnx()
    with pytest.warns(UserWarning, match="training mode"):
        assert sb.greedy(fake_pair(model.train()), PROMPT, max_new_tokens=3).stats.engine == "torch"
