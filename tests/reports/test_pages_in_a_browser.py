"""Pages of runs as Chromium shows them: whole and quiet, whatever their notebooks hold."""

import base64
import io

import nbformat
import pytest
from PIL import Image
from run_pages import BREAKING, output, page, stream

pytest_plugins = ["browser"]
pytestmark = pytest.mark.browser
v4 = nbformat.v4
WHOLE = """() => {
    const after = [...document.querySelectorAll("pre")].find(
        (pre) => pre.textContent.trim() === "AFTER")
    const provenance = document.querySelector("main > #provenance")
    return {
        after: after && after.closest("body > main > .jp-CodeCell") !== null && after.checkVisibility(),
        provenance: provenance && provenance.checkVisibility(),
        forms: document.querySelectorAll("form, iframe, script, base, object, main meta, main link").length,
        wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    }
}"""
SOUND = {"after": True, "provenance": True, "forms": 0, "wide": False}


def picture(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 20), "teal").save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def every_type():
    """An output of every type that JupyterLab shows, and some that it does not."""
    data = {f"image/{kind}": picture(kind) for kind in ("png", "jpeg", "gif", "webp", "bmp")}
    data |= {
        "text/plain": "words\tand \x1b[1;31mcolours\x1b[0m",
        "text/html": "<style>b {color: teal} body {display: none}</style><b>bold</b><table><tr><th>a<td>1</table>",
        "text/markdown": "# Title\n\n* `code` and $x^2$\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nx = 1\n```",
        "text/latex": "The loss $\\displaystyle \\sum_i x_i$ and $$\\frac{a}{b}$$",
        "image/svg+xml": "<svg width='40' height='20'><circle r='9' cx='10' cy='10' fill='teal'/></svg>",
        "application/json": {"a": [1, 2, {"b": None}]},
        "application/geo+json": {"type": "Point", "coordinates": [0, 0]},
        "application/vnd.vegalite.v5+json": {"mark": "bar"},
        "application/vnd.plotly.v1+json": {"data": []},
        "application/javascript": "document.body.remove()",
        "application/pdf": base64.b64encode(b"%PDF-1.4").decode(),
        "text/vnd.mermaid": "graph TD; A-->B",
        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
        "application/x-unknown": "?",
    }
    yield from (v4.new_output("display_data", data={kind: value}) for kind, value in data.items())
    yield from (output(kind, value, f"text of {kind}") for kind, value in data.items())
    yield stream("out " + "long " * 300 + "\n")
    yield from (stream(f"\r{percent}%|{'#' * (percent // 5)}", "stderr") for percent in range(0, 101, 3))
    yield v4.new_output("error", ename="KeyError", evalue="'x'", traceback=["\x1b[31mKeyError\x1b[0m", "line <1>"])


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1300, 420])
def test_a_page_of_every_type_is_whole_wide_and_narrow_in_both_schemes(visitors, tmp_path, width, dark):
    shown = visitors.open(width=width, dark=dark)
    texts = ["Text with <b>HTML</b>, $x$ and\n\n$$\\int_0^1 x\\,dx$$\n\n<div style='position:fixed;inset:0'>over</div>"]
    shown.set_content(page(tmp_path, *every_type(), texts=texts))
    assert shown.evaluate(WHOLE) == SOUND
    sizes = "[...document.querySelectorAll('main img')].map((image) => image.complete && image.naturalWidth)"
    assert set(shown.evaluate(sizes)) == {40}
    assert shown.evaluate("getComputedStyle(document.querySelector('.part > b')).color") == "rgb(0, 128, 128)"
    assert shown.get_by_text("99%|").inner_text().strip() == "99%|" + "#" * 19


@pytest.mark.slow
def test_no_markup_reaches_beyond_its_output_or_text(visitors, tmp_path):
    shown = visitors.open()
    for name, markup in BREAKING.items():
        html = page(tmp_path, output("text/html", markup), output("text/markdown", markup), texts=[f"a\n\n{markup}"])
        shown.set_content(html)
        assert (name, shown.evaluate(WHOLE)) == (name, SOUND)
    assert not [address for address in visitors.requests if not address.startswith("data:")]


def test_a_style_holds_within_its_own_output(visitors, tmp_path):
    styles = [f"<style>b {{color: {name}}} :root {{font-weight: 700}}</style><b>x</b>" for name in ("red", "blue")]
    shown = visitors.open()
    shown.set_content(page(tmp_path, *(output("text/html", each) for each in styles), texts=["**bold** <b>text</b>"]))
    colours = shown.evaluate("[...document.querySelectorAll('.part b')].map((bold) => getComputedStyle(bold).color)")
    assert colours[1:] == ["rgb(255, 0, 0)", "rgb(0, 0, 255)"] and colours[0] not in colours[1:]
