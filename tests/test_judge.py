"""transformers' own generation tests with `SpeculativeLM`, where a checkout of them is at hand (`judge.py`)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = os.environ.get("SPECBEAM_TRANSFORMERS_SOURCE")


@pytest.mark.slow
@pytest.mark.skipif(SOURCE is None, reason="needs SPECBEAM_TRANSFORMERS_SOURCE, a checkout of transformers (judge.py)")
def test_transformers_own_generation_tests_find_nothing_wrong_on_llama(tmp_path):
    judge, out = Path(__file__).with_name("judge.py"), tmp_path / "judged.json"
    command = [sys.executable, judge, "--source", str(SOURCE), "--models", "llama", "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600)
    assert out.exists(), done.stderr
    tests = json.loads(out.read_text())["models"]["llama"]
    assert [name for name, test in tests.items() if test["outcome"] == "WRONG"] == [], done.stdout
    assert any(test["outcome"] == "passed" for test in tests.values()), done.stdout
