"""What commands print reaches its reader: the model's text unchanged, in any encoding, or a line that says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

STUB = """
import os, sys
from types import SimpleNamespace as N
import specbeam
text = os.environ["STUB_TEXT"].encode("latin-1").decode("unicode_escape") * int(os.environ.get("STUB_TIMES", 1))
counts = dict.fromkeys("steps target_passes target_tokens draft_passes relaxed_steps peak_kv_tokens".split(), 1)
times = dict.fromkeys("steps_per_pass tokens_per_second prefill_s decode_s draft_s target_s".split(), 1.0)
stats = N(**counts, **times, accepted={1: 1}, engine="torch")
decoded = N(text=[text], sequences=[[1]], scores=[0.0], stats=stats, exact=True)
inputs = N(to=lambda device: {})
specbeam.load_pair = lambda *a, **k: N(name="stub", revisions={}, tokenizer=None, target=N(device="cpu"))
specbeam.render_prompt = lambda *a, **k: inputs
specbeam.METHODS = dict.fromkeys(("greedy", "beam", "speculative", "speculative_beam"), lambda *a, **k: decoded)
from specbeam.apps.cli.main import app
app()
"""

OPTIONS: Any = pytest.param(["options"], marks=pytest.mark.slow)  # it imports all of transformers first
TEXTS = [
    "MAC 00:1a:ab:cd:00:0a and fe80::ab:cd:1",
    "use s[:key:] and :+1: or :100: here",
    "[bold]markup[/bold] and [link=x]y[/link]",
    "all:\n\tcc -o a a.c\n",
    "name\tage\nann\t3",
    "x = 1   \n    y = 2",
    "    indented = 1\n    second = 2",
    "\n\n two lines above, two blanks below  \n\n",
    "a" * 300 + " " * 5 + "\nend",
    "bell\a back\b vt\v ff\f cr\r end \x1b[31mred",
    "naïve “quotes” – 日本語 → \U0001f600",
]


def command(*arguments: str | bytes, text: str = "a short text", **options: Any) -> subprocess.CompletedProcess[bytes]:
    """`specbeam` with these arguments, where every model answers `text`."""
    escaped = text.encode("unicode_escape").decode("ascii")
    environment = {**os.environ, "STUB_TEXT": escaped, "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8"}
    environment |= options.pop("env", {})
    given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 300, **options}
    return subprocess.run([sys.executable, "-c", STUB, *arguments], env=environment, check=False, **given)


@pytest.mark.parametrize("text", TEXTS)
def test_a_pipe_gets_the_text_that_was_decoded(text: str) -> None:
    done = command("generate", "hi", text=text, env={"FORCE_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    body, _, rest = done.stdout.decode().rpartition("\n\nstub,")
    assert body == text and rest.endswith("\n")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "ascii:surrogateescape", "latin-1", "utf-16"])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_what_an_encoding_lacks_is_escaped_and_nothing_is_lost(encoding: str, more: list[str]) -> None:
    text = TEXTS[-1]
    done = command("generate", "hi", *more, text=text, env={"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    encoding = encoding.partition(":")[0]  # a C locale escapes what is no text in its own way
    printed = done.stdout.decode(encoding)
    if more:
        assert json.loads(printed)["text"] == [text]
    else:
        assert printed.startswith(text.encode(encoding, "backslashreplace").decode(encoding) + "\n\n")


@pytest.mark.parametrize("arguments", [["compare", "hi"], OPTIONS, ["--help"]])
def test_tables_are_printed_in_ascii_too(arguments: list[str]) -> None:
    done = command(*arguments, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"Traceback" not in done.stderr and done.stdout


def test_a_table_shows_markup_and_emoji_codes_as_they_are() -> None:
    done = command("compare", "hi", text="[red]x[/red] :key:", env={"COLUMNS": "160"})
    assert b"[red]x[/red] :key:" in done.stdout


COMMANDS: list[Any] = [["generate", "hi"], ["generate", "hi", "--json"], ["compare", "hi"]]
COMMANDS += [OPTIONS]
FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full, which Linux has")
@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_full_disk_is_one_line_and_no_success(arguments: list[str]) -> None:
    with FULL.open("wb") as full:
        done = command(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        "specbeam: [Errno 28] No space left on device: free some space there, or write to another disk"
    ]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_reader_who_has_read_enough_hears_no_complaint(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = command(*arguments, text="a long text ", env={"STUB_TIMES": "20000"}, stdout=writing)
    finally:
        os.close(writing)
    assert done.stderr == b""


def refused(*arguments: str | bytes, **options: Any) -> str:
    """The one line with which the command refuses them."""
    done = command(*arguments, **options)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 2 and len(lines) == 1 and not done.stdout, done.stderr
    return lines[0]


@pytest.mark.skipif(sys.platform == "win32", reason="arguments are bytes on POSIX systems alone")
def test_bytes_that_are_no_text_are_refused_before_a_model_loads() -> None:
    assert "the prompt holds '\\udcff' as its character 2" in refused("generate", b"a\xff")
    assert "the system prompt holds" in refused("generate", "hi", "--system", b"\xff")
    assert "the prefill holds" in refused("generate", "hi", "--prefill", b"\xff")
    assert "standard input is not utf-8: byte 2 is 0xff; convert it" in refused("generate", "-", input=b"ab\xff")
    assert "holds NUL characters, as UTF-16 does" in refused("generate", "-", input="ab".encode("utf-16-le"))
    assert "the prompt '' is empty" in refused("generate", "-", input=b"\xef\xbb\xbf")
