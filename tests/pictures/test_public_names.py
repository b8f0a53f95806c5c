"""`specbeam.pictures` as the one import for pictures: every name is there, and light ones stay light."""

import subprocess
import sys
from pathlib import Path

import pytest

from specbeam import pictures


def imported_by(code: str) -> list[str]:
    """Which of the heavy libraries a new process has imported after the code."""
    code += "\nimport sys; print(*[name for name in ('torch', 'transformers', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_svg_needs_neither_matplotlib_nor_torch():
    names = "History, Picture, TracedDecode, beam_tree, frames, page, progress_by_pass, round_timeline, token_strip"
    assert imported_by(f"from specbeam.pictures import {names}, token_texts") == []


def test_charts_need_no_torch():
    assert imported_by("from specbeam.pictures import *") == ["matplotlib"]


@pytest.mark.parametrize("name", pictures.__all__)
def test_a_public_name_is_a_function_or_a_class_and_no_module_can_hide_it(name: str):
    assert callable(getattr(pictures, name))
    assert not Path(pictures.__file__).with_name(f"{name}.py").exists()
