"""Two processes that share a target, over gloo on the CPU."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import chat_tokenizer, tiny_llama

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


def test_ranks_decide_alike_and_decode_as_one_process_does(tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path / "model")
    chat_tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "decode.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(port)]
    command += [str(tmp_path / "decode.py"), str(tmp_path / "model"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr[-2000:]
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0] == found[1]
    assert found[0]["kind"] == "DTensor"
    alone = sb.load_pair(tmp_path / "model", draft="recall", dtype="float64", packed=False)
    inputs = {"input_ids": torch.tensor([[3, 5, 7, 9, 11]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}
    for name, method in sb.METHODS.items():
        sequence, passes, drafted = found[0][name]
        assert sequence == method(alone, inputs, max_new_tokens=12).sequences[0], name
        assert (drafted > 0) == name.startswith("speculative") and passes <= 12


def test_a_plan_without_several_processes_or_beside_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="torchrun"):
        sb.load_pair(tmp_path, tp_plan="auto")
    with pytest.raises(ValueError, match="leave device and device_map out"):
        sb.load_pair(tmp_path, tp_plan="auto", device="cpu")
