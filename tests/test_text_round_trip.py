"""A text is the same one behind prompt file, record, report and pipe."""

from __future__ import annotations

import html as html_module
import io
import json
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import nbformat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from run_pages import page

from specbeam.apps.cli import decode
from specbeam.evaluation.data import load
from specbeam.experiments.records import RunRecord

v4 = nbformat.v4
# An escape begins a colour in an output, as in JupyterLab.
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x1b"), min_size=1).filter(
    lambda text: text.strip()
)


def piped(text: str) -> str:
    """What `specbeam generate` prints into a pipe where the model answers `text`, without its summary."""
    counts = dict.fromkeys(("steps", "target_passes", "relaxed_steps"), 1)
    times = dict.fromkeys(("steps_per_pass", "tokens_per_second", "prefill_s", "decode_s"), 1.0)
    decoded = SimpleNamespace(text=[text], stats=SimpleNamespace(**counts, **times, accepted={1: 1}), exact=True)
    kept = decode._prepare, decode._decode, sys.stdout
    pipe = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n")
    decode._prepare, decode._decode, sys.stdout = (
        lambda *a, **k: (SimpleNamespace(name="stub"), {}),
        lambda *a: decoded,
        pipe,
    )
    try:
        decode.generate("hi")
        pipe.flush()
        return pipe.buffer.getvalue().decode().rpartition("\n\nstub,")[0]
    finally:
        decode._prepare, decode._decode, sys.stdout = kept


@given(TEXTS, st.booleans())
@settings(deadline=None, max_examples=20)
@example("\ufeff:key: [b]\t<pre>\n\r\x0b \u2028\u200b$x$ \U0001f600  \n", False)
def test_a_text_is_the_same_behind_file_record_report_and_pipe(text: str, escaped: bool) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prompts.jsonl").write_text(json.dumps({"prompt": text}, ensure_ascii=escaped), "utf-8")
        (read,) = load("prompts", path=folder / "prompts.jsonl")
        RunRecord("01_toy", parameters={"text": read.prompt}, metrics={"texts": [read.prompt]}).save(folder / "r.json")
        record = RunRecord.load(folder / "r.json")
        kept = record.metrics["texts"][0]
        shown = page(folder, v4.new_output("display_data", data={"text/plain": kept}), parameters=record.parameters)
    assert read.prompt == kept == record.parameters["text"] == text
    written = re.findall(r'data-mime-type="text/plain">\n<pre>\n(.*?)</pre>', shown, re.DOTALL)[0]
    assert html_module.unescape(written) == text.replace("\0", "\u2400")  # no HTML holds NUL
    assert piped(kept) == text
