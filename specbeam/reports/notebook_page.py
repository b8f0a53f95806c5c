"""An executed notebook as one HTML page that needs no network and no script, and stays small enough to mail.

Equations become MathML and images are embedded; widgets, which would need scripts, are dropped: their static twins
stand beside them.
"""

import base64
import binascii
import contextlib
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from latex2mathml.converter import convert
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

from . import pages as report_pages
from .images import shrunk

PAGE_LIMIT = 5_000_000  # bytes
STEPS = ((1600, 256), (1100, 128), (800, 64), (500, 32))  # width in pixels and colours of pictures, until it fits
LONG_OUTPUT = 50_000  # characters of an output that a page may lose when smaller pictures were not enough
PICTURES = ("image/png", "image/jpeg")
SMALLER = "The pictures on this page are smaller than they were made, to keep it small. The executed notebook has both."
CUT = "Long outputs are left out of this page, to keep it small. The executed notebook has them."
NAMED = re.compile(r"\\operatorname\*?\s*\{([^{}]*)\}")  # the converter makes a product of its letters
# Names that TeX sets apart from what follows by a thin space, which MathML leaves out.
OPERATORS = re.compile(r"(<mi>(?:log|ln|exp|arg|max|min|softmax)</mi>)(?=<m(?:i|n|sub|sup|frac|row)\b)")
SCRIPT = re.compile(r"<script\b.*?(</script\s*>|\Z)", re.IGNORECASE | re.DOTALL)


def notebook_html(path: Path, title: str, run: Mapping[str, Any]) -> str:
    """The page of an executed notebook; `run` is what the template shows around it.

    Pictures, and then outputs, give way until the page is smaller than PAGE_LIMIT bytes, and the page says so. Raises
    ValueError when the notebook cannot be read, or when nothing that may give way is left.
    """
    try:
        notebook: Any = nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises its own and json's errors for the same thing
        raise ValueError(f"{path} is not a notebook: {error}. Run it again.") from error
    notebook.metadata.pop("widgets", None)
    notebook.metadata["title"] = title
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs = [output for output in map(_still, cell.outputs) if output is not None]
    made = _pictures(code)
    html = _export(notebook, path, {**run, "notes": []})
    for width, colours in STEPS if made else ():
        if _size(html) <= PAGE_LIMIT:
            return html
        for data, original in made:
            _shrink(data, original, width, colours)
        html = _export(notebook, path, {**run, "notes": [SMALLER]})
    if _size(html) > PAGE_LIMIT:
        for cell in code:
            cell.outputs = [_shortened(output) for output in cell.outputs]
        html = _export(notebook, path, {**run, "notes": [*([SMALLER] if made else []), CUT]})
    if _size(html) > PAGE_LIMIT:
        raise ValueError(
            f"the page of {path} would have {_size(html) / 1e6:.1f} MB, more than {PAGE_LIMIT / 1e6:g}: "
            "print less in the notebook, or look at it in JupyterLab"
        )
    return html


def mathml(tex: str, display: str = "inline") -> str:
    """TeX as MathML; as code, so that it can still be read, where it cannot be converted."""
    try:
        converted = convert(NAMED.sub(r"\\text{\1}", tex.strip()), display=display)
        return OPERATORS.sub(r'\1<mspace width="0.17em"/>', converted)
    except Exception:  # the converter raises many types, and a page with one raw formula beats no page
        return f"<code>{escape(tex)}</code>"


class _MathmlRenderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


def _export(notebook: Any, path: Path, run: Mapping[str, Any]) -> str:
    resources = {"metadata": {"name": path.stem, "path": str(path.parent)}, "run": run}
    html, _ = _exporter().from_notebook_node(notebook, resources)
    return html


def _exporter() -> HTMLExporter:
    settings = Config()
    settings.TagRemovePreprocessor.remove_cell_tags = {"remove-cell"}
    settings.TagRemovePreprocessor.remove_input_tags = {"remove-input"}
    exporter = HTMLExporter(
        config=settings,
        extra_loaders=[jinja2.DictLoader({"report.html.j2": report_pages.NOTEBOOK})],
        template_file="report.html.j2",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
    )

    @jinja2.pass_context
    def markdown_with_mathml(context: Any, source: str) -> Any:
        attachments = context.get("cell", {}).get("attachments", {})
        renderer = _MathmlRenderer(escape=False, attachments=attachments, exclude_anchor_links=True)
        return SCRIPT.sub("", MarkdownWithMath(renderer=renderer).render(source))

    exporter.register_filter("markdown2html", markdown_with_mathml)
    return exporter


def _still(output: Any) -> Any:
    """The output without what needs a script, or None when nothing else is left."""
    data = output.get("data")
    if data is None:
        return output
    moving = [kind for kind in data if "widget" in kind or "javascript" in kind]
    for kind in moving:
        del data[kind]
    if "text/latex" in data and "text/html" not in data:
        data["text/html"] = mathml(data.pop("text/latex").strip().strip("$"), "block")
    if "text/html" in data:
        data["text/html"] = SCRIPT.sub("", data["text/html"])
    return None if moving and set(data) <= {"text/plain"} else output


def _pictures(code: list[Any]) -> list[tuple[Any, bytes]]:
    """The data of an output and the bytes of its picture, for each that has one."""
    found = []
    for cell in code:
        for data in (output.get("data", {}) for output in cell.outputs):
            if kind := next((kind for kind in PICTURES if kind in data), None):
                with contextlib.suppress(binascii.Error):
                    found.append((data, base64.b64decode(data[kind])))
    return found


def _shrink(data: Any, original: bytes, width: int, colours: int) -> None:
    smaller = shrunk(original, width, colours)
    if smaller is not None and len(smaller[1]) < len(original):
        for old in PICTURES:
            data.pop(old, None)
        data[smaller[0]] = base64.b64encode(smaller[1]).decode()


def _shortened(output: Any) -> Any:
    texts = [output.text] if output.output_type == "stream" else output.get("data", {}).values()
    if sum(len(str(item)) for item in texts) <= LONG_OUTPUT:
        return output
    return nbformat.v4.new_output("stream", name="stdout", text="(An output was left out here.)")


def _size(html: str) -> int:
    return len(html.encode())
