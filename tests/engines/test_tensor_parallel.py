"""Two processes that share a target, over gloo on the CPU."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import chat_tokenizer, tiny_llama
from transformers import AutoModelForCausalLM

import specbeam as sb

SCRIPT = """
import json, pathlib, sys, time
import torch
import torch.distributed as dist
import specbeam as sb

class Guess(sb.Draft):
    def propose(self, tree, node):
        return [sb.Proposal(token, -1.0) for token in (47, 50, 56)]


pair = sb.load_pair(sys.argv[1], draft=Guess(), dtype="float64", tp_plan="auto")
kind = type(pair.target.model.layers[0].self_attn.q_proj.weight).__name__
inputs = {"input_ids": torch.tensor([[3, 5, 7, 9, 11]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
found = {"kind": kind}
for name, method in sb.METHODS.items():
    time.sleep(0.3 * dist.get_rank())  # the clocks of the ranks must not matter
    decoded = method(pair, inputs, max_new_tokens=12)
    found[name] = [decoded.sequences[0], decoded.stats.target_passes, decoded.stats.drafted]
(pathlib.Path(sys.argv[2]) / f"{dist.get_rank()}.json").write_text(json.dumps(found))  # their outputs may mix
dist.destroy_process_group()
"""


def ranks(folder: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in two processes, with a model's folder, `folder` for what each finds, and the arguments."""
    model = tiny_llama()
    model.save_pretrained(folder / "model")
    chat_tokenizer().save_pretrained(folder / "model")
    (folder / "decode.py").write_text(script)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    command += [str(folder / "decode.py"), str(folder / "model"), str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def findings(folder: Path, run: subprocess.CompletedProcess[str]) -> list[Any]:
    """What each rank found."""
    assert run.returncode == 0, run.stderr[-2000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def generated(folder: Path, **options: Any) -> list[int]:
    """What transformers' `generate` continues the scripts' prompt with, in one process."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64)
    ids = torch.tensor([[3, 5, 7, 9, 11]])
    return model.generate(ids, do_sample=False, max_new_tokens=12, **options)[0, 5:].tolist()


@pytest.mark.slow
def test_ranks_decide_alike_and_decode_as_one_process_does(tmp_path: Path) -> None:
    found = findings(tmp_path, ranks(tmp_path, SCRIPT))
    assert found[0] == found[1]
    assert found[0]["kind"] == "DTensor"
    alone = sb.load_pair(tmp_path / "model", draft="recall", dtype="float64", packed=False)
    inputs = {"input_ids": torch.tensor([[3, 5, 7, 9, 11]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    for name, method in sb.METHODS.items():
        sequence, passes, drafted = found[0][name]
        assert sequence == method(alone, inputs, max_new_tokens=12).sequences[0], name
        assert (drafted > 0) == name.startswith("speculative") and passes <= 12


FAULTS = """
import datetime, json, pathlib, sys, warnings
import torch
import torch.distributed as dist
import specbeam as sb

model, folder, *faults = sys.argv[1:]
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))  # ranks that part are an error, and soon
rank = dist.get_rank()


class Guess(sb.Draft):
    asked, fault = 0, ""

    def expand(self, trees, nodes):
        self.asked += 1
        if rank == 1 and self.asked == 4 and self.fault == "expand":
            raise RuntimeError("the index is gone")
        return super().expand(trees, nodes)

    def observe(self, b, nodes):
        if rank == 1 and self.asked == 3 and self.fault == "observe":
            raise RuntimeError("the index is gone")

    def propose(self, tree, node):
        first = 47 - (20 * rank if self.fault == "other proposals" else 0)
        return [sb.Proposal(first + step, -1.0) for step in (0, 3, 9)]


guess = Guess()
pair = sb.load_pair(model, draft=sb.UnionDraft([guess, sb.RecallDraft()]), dtype="float64", tp_plan="auto")
inputs = {"input_ids": torch.tensor([[3, 5, 7, 9, 11]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}


def crowded(module, given):
    if rank == 1 and guess.fault == "memory" and given[0].shape[1] > 1 and guess.asked > 4:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


pair.target.model.layers[1].register_forward_pre_hook(crowded)
found = {}
for guess.fault in faults:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        texts = []
        for beams in (1, 3):
            guess.asked = 0
            method = sb.speculative_beam if beams > 1 else sb.speculative
            decoded = method(pair, inputs, max_new_tokens=12, **({"num_beams": beams} if beams > 1 else {}))
            texts.append([decoded.sequences[0], decoded.stats.target_passes, decoded.stats.drafted])
    said = [str(one.message) for one in caught if "Guess" in str(one.message)]
    found[guess.fault] = {"texts": texts, "said": said}
(pathlib.Path(folder) / f"{rank}.json").write_text(json.dumps(found))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_a_draft_that_fails_or_differs_on_one_rank_does_not_part_them(tmp_path: Path) -> None:
    first, second = findings(tmp_path, ranks(tmp_path, FAULTS, "expand", "observe", "other proposals"))
    wanted = [generated(tmp_path), generated(tmp_path, num_beams=3)]
    for fault, found in first.items():
        assert [text for text, *_ in found["texts"]] == wanted, fault
        assert found["texts"] == second[fault]["texts"], fault
        assert all(drafted > 0 for *_, drafted in found["texts"])
    assert not first["other proposals"]["said"] and not second["other proposals"]["said"]
    for hook in ("expand", "observe"):
        here, there = first[hook]["said"], second[hook]["said"]
        assert len(here) == len(there) == 2
        assert all("Guess failed on rank 1, which says why" in said for said in here)
        assert all(f"Guess failed in {hook} (RuntimeError: the index is gone)" in said for said in there)


@pytest.mark.slow
def test_memory_that_does_not_suffice_on_one_rank_ends_the_job_with_the_remedy(tmp_path: Path) -> None:
    run = ranks(tmp_path, FAULTS, "memory")
    assert run.returncode != 0
    assert "other ranks wait" in run.stderr and "num_assistant_tokens" in run.stderr
    assert not list(tmp_path.glob("?.json"))


def test_a_plan_without_several_processes_or_beside_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="torchrun"):
        sb.load_pair(tmp_path, tp_plan="auto")
    with pytest.raises(ValueError, match="leave device and device_map out"):
        sb.load_pair(tmp_path, tp_plan="auto", device="cpu")
