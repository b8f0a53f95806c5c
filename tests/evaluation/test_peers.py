"""Other libraries in turns with ours: order, processes, and what the table says, on scripts that only pretend."""

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import hash_lm
from rich.console import Console

from specbeam.evaluation.bench.cases import Case
from specbeam.evaluation.bench.peers import measure, report
from specbeam.evaluation.bench.peers.contenders import SPECBEAM, TRANSFORMERS, Contender, started
from specbeam.evaluation.bench.peers.environment import Environment
from specbeam.evaluation.bench.peers.process import PeerError, Unsupported, Worker
from specbeam.evaluation.bench.peers.report import about, load_record, record, remarks, rows, text_rows
from specbeam.evaluation.bench.peers.turns import take_turns

INPUTS = [{"input_ids": torch.tensor([[5, 6, first]])} for first in (7, 8)]
CASES = [Case("chat", 1, inputs=INPUTS), Case("chat", 4, inputs=INPUTS[:1])]

SCRIPT = """
import os, sys, time
PACKAGES = ("numpy",)

def convert(source, folder, end_token):
    import numpy as np
    from safetensors.numpy import load_file
    tensors = load_file(source / "model.safetensors")
    np.save(folder / "all.npy", np.concatenate([tensors["a"], tensors["b"]]).T {change})

def weights(folder):
    import numpy as np
    yield np.load(folder / "all.npy")

def load(folder, threads, end_token):
    print("libraries chat on stdout")
    {load}
    def decode(ids, num_beams, new_tokens):
        {decode}
        return [ids[-1] + end_token + n for n in range(new_tokens)]
    return decode

def facts(folder):
    return {{"threads": os.environ["OMP_NUM_THREADS"]}}
"""


def script(folder: Path, name: str = "fake", load: str = "pass", decode: str = "pass", change: str = "") -> Path:
    path = folder / f"{name}.py"
    path.write_text(SCRIPT.format(load=load, decode=decode, change=change))
    return path


def worker(folder: Path, limit_s: float = 60, **lines: str) -> Worker:
    return Worker(sys.executable, script(folder, **lines), folder / "log", 2, limit_s)


def player(name: str, log: list[Any], last: int = 0, fails: Exception | None = None, from_call: int = 0) -> Contender:
    """Takes a second a prompt, or half of one for specbeam; `last` is added to the last token."""

    def decode(inputs, num_beams, new_tokens):
        log.append((inputs["input_ids"][0, -1].item(), num_beams, new_tokens, name))
        if fails is not None and sum(each[-1] == name for each in log) > from_call:
            raise fails
        tokens = list(range(new_tokens))
        return [*tokens[:-1], tokens[-1] + last], 0.5 if name == SPECBEAM else 1.0

    return Contender(name, decode)


def test_everybody_decodes_every_prompt_once_a_repeat_in_an_order_that_rotates():
    log: list[Any] = []
    finished = []
    names = [TRANSFORMERS, SPECBEAM, "x"]
    take_turns(CASES, [player(name, log) for name in names], 2, 9, lambda n, case: finished.append((n, case.label)))
    warm_up = [(7, beams, 8, name) for beams in (1, 4) for name in names]
    assert log[:6] == warm_up
    turns, prompts = log[6:], [(7, 1), (8, 1), (7, 4)] * 2
    for n, prompt in enumerate(prompts):
        expected = names[n % 3 :] + names[: n % 3]
        assert turns[3 * n : 3 * n + 3] == [(*prompt, 9, name) for name in expected]
    assert finished == [(n, label) for n in range(2) for label in ("chat_greedy", "chat_beam_4")]


def test_rows_compare_within_a_repeat_and_show_who_differs():
    log: list[Any] = []
    players = [player(TRANSFORMERS, log), player(SPECBEAM, log), player("x", log, last=5)]
    turns = take_turns(CASES, players, 2, 9)
    found = rows(CASES, players, turns, hash_lm(24, 1))
    assert [(row["case"], row["contender"]) for row in found] == [
        (case.label, each.name) for case in CASES for each in players
    ]
    ours, other = found[1], found[2]
    assert ours["speedup"] == {"median": 2.0, "min": 2.0, "max": 2.0, "n": 2} and ours["equal"] is True
    assert ours["seconds"]["median"] == 1.0 and ours["prompt_seconds"] == [[0.5, 0.5]] * 2
    assert other["equal"] is False
    assert [(each["prompt"], each["token"]) for each in other["differs"]] == [(0, 8), (1, 8)]
    assert other["differs"][0]["total_nats"] == pytest.approx(other["differs"][0]["token_nats"], abs=1e-4)
    assert text_rows(found) == [
        ["case", TRANSFORMERS, SPECBEAM, "x"],
        ["chat greedy", "1.00 s × 1.00", "0.50 s × 2.00", "1.00 s × 1.00 ≠"],
        ["chat beam 4", "1.00 s × 1.00", "0.50 s × 2.00", "1.00 s × 1.00 ≠"],
    ]
    told = remarks(found)
    assert len(told) == 3 and told[1].startswith(
        "x differs in chat greedy, prompt 2, from token 9 on: its token there is"
    )


def test_a_text_that_ends_early_differs():
    short = Contender("x", lambda inputs, num_beams, new_tokens: (list(range(new_tokens - 2)), 1.0))
    players = [player(TRANSFORMERS, []), short]
    found = rows(CASES, players, take_turns(CASES, players, 1, 9))
    assert found[1]["differs"][0] == {"prompt": 0, "token": 7, "tokens": 7, "token_nats": None, "total_nats": None}
    assert remarks(found)[0] == "x differs in chat greedy, prompt 1, from token 8 on; it has 7 tokens"


def test_who_cannot_or_dies_keeps_a_row_with_the_reason():
    log: list[Any] = []

    def no_beams(inputs, num_beams, new_tokens):
        if num_beams > 1:
            raise Unsupported("no beam search")
        return list(range(new_tokens)), 2.0

    dies = player("dies", log, fails=PeerError("its process ended with code 3"), from_call=2 + 3)
    missing = Contender("missing", None, "the conversion failed: no such module")
    players = [player(TRANSFORMERS, log), Contender("greedy only", no_beams), dies, missing]
    found = rows(CASES, players, take_turns(CASES, players, 2, 9))
    at = {(row["case"], row["contender"]): row for row in found}
    assert at["chat_greedy", "greedy only"]["repeats"] == 2
    assert at["chat_beam_4", "greedy only"]["seconds"] is None
    assert (at["chat_greedy", "dies"]["repeats"], at["chat_beam_4", "dies"]["repeats"]) == (1, 1)
    assert at["chat_greedy", TRANSFORMERS]["repeats"] == 2 and at["chat_greedy", "missing"]["repeats"] == 0
    assert text_rows(found)[2][1:] == ["1.00 s × 1.00", "– no beam search", "1.00 s × 1.00", "– (see below)"]
    assert remarks(found) == [
        "dies has no full result in any case: its process ended with code 3",
        "missing has no full result in any case: the conversion failed: no such module",
        "greedy only has no full result in chat beam 4: no beam search",
    ]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report.table(found, "title"))
    assert "– no beam search" in console.export_text()


def test_a_record_says_who_took_part_and_reads_back(tmp_path):
    players = [player(TRANSFORMERS, []), player(SPECBEAM, [])]
    found = rows(CASES, players, take_turns(CASES, players, 1, 9))
    other = Contender("x", None, "it is not here", {"versions": {"x": "1.2"}, "verified": {"rows": 7}})
    facts = {"cpu": {"name": "A CPU", "vector_units": ["avx2"]}}
    path = record(found, {"repeats": 1}, [*players, other], None, **facts).save(tmp_path / "record.json")
    loaded = load_record(path)
    assert loaded.metrics["chat_greedy_specbeam_speedup"] == 2.0 and loaded.metrics["all_equal"] is True
    assert loaded.timings["chat_beam_4_transformers_s"]["median"] == 1.0
    first, *rest = about(loaded)
    assert first.startswith("A CPU (avx2), ") and "x: x 1.2; all 7 rows of its weights are the checkpoint's." in rest
    path.write_text(path.read_text().replace('"contenders"', '"others"'))
    with pytest.raises(ValueError, match="no record of the other libraries"):
        load_record(path)


def test_a_worker_answers_and_sleeps_between_its_turns(tmp_path):
    with worker(tmp_path) as library:
        ready = library.load(tmp_path, 3)
        assert ready["versions"].keys() == {"numpy"} and ready["facts"] == {"threads": "2"}
        began = time.perf_counter()
        sequence, seconds = library.decode([4, 5], 1, 3)
        assert sequence == [8, 9, 10] and 0 <= seconds <= time.perf_counter() - began
        if sys.platform == "linux":
            status = Path(f"/proc/{library.process.pid}/stat")
            deadline = time.monotonic() + 120
            while (state := status.read_text().rpartition(")")[2].split()[0]) != "T" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert state == "T"
        assert library.decode([4, 6], 1, 1)[0] == [9]
    assert library.process.returncode == 0
    assert "chat on stdout" in (tmp_path / "log").read_text()


def test_a_worker_that_lacks_a_search_goes_on(tmp_path):
    with worker(tmp_path, decode="if num_beams > 1: raise NotImplementedError('no beam search')") as library:
        library.load(tmp_path, 3)
        with pytest.raises(Unsupported, match="no beam search"):
            library.decode([4], 4, 1)
        assert library.decode([4], 1, 1)[0] == [7]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ({"load": "import no_such_library"}, "ModuleNotFoundError: No module named 'no_such_library'"),
        ({"decode": "raise ValueError('bad\\n prompt')"}, "ValueError: bad prompt"),
        (
            {"decode": "print('out of memory', file=sys.stderr); sys.stderr.flush(); os._exit(3)"},
            "code 3: out of memory",
        ),
        ({"decode": "time.sleep(60)"}, "no answer within 3 s"),
    ],
)
def test_a_worker_that_fails_says_why(lines, reason, tmp_path):
    with (
        worker(tmp_path, 3 if "sleep" in str(lines) else 60, **lines) as library,
        pytest.raises(PeerError, match=reason),
    ):
        library.load(tmp_path, 3)
        library.decode([4], 1, 1)


def test_libraries_are_converted_compared_and_started_and_a_broken_one_is_told(tmp_path):
    from safetensors.numpy import save_file

    source, build = tmp_path / "model", tmp_path / "build"
    source.mkdir()
    tensors = {"a": torch.randn(2, 3).numpy(), "b": torch.randn(4, 3).numpy()}
    save_file(tensors, source / "model.safetensors")
    good, changed = script(tmp_path, "good"), script(tmp_path, "changed", change="* 1.001")
    scripts = {"good": good, "changed": changed, "ill": script(tmp_path, "ill", load="import no_such_library")}
    environment = Environment(Path(sys.executable), tmp_path, "key", {"no-such-library": "no wheel"})
    said: list[str] = []
    with started(scripts, source, 3, environment, build, 2, said.append) as found:
        assert [each.name for each in found if each.decode] == ["good"]
        assert found[0].decode is not None and found[0].decode(INPUTS[0], 1, 2)[0] == [10, 11]
        assert found[0].about["verified"] == {"tensors": 2, "rows": 6}
        assert "6 of the 6 rows of the checkpoint's weights are not in" in found[1].reason
        assert "No module named 'no_such_library' (no-such-library was not installed: no wheel)" in found[2].reason
    converted = [line for line in said if line.startswith("Converting")]
    assert len(converted) == 3
    with started({"good": good}, source, 3, environment, build, 2, said.append):
        assert not [line for line in said if line.startswith("Converting")][3:]  # it was kept


def test_the_plan_has_nine_cases_and_no_batches():
    assert [(case.label, case.prompts) for case in measure.plan(["code_beam_8", "chat_greedy"])] == [
        ("chat_greedy", 1),
        ("code_beam_8", 1),
    ]
    assert sorted(case.label for case in measure.plan()) == sorted(measure.CASES) and len(measure.CASES) == 9
    with pytest.raises(ValueError, match="decodes a batch"):
        measure.plan(["batch_8_beam_4"])
