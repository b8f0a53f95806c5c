"""An executed notebook as one HTML page that needs no network and no script, and stays small enough to mail.

Equations become MathML and images are embedded. Widgets would need scripts, so they are dropped: each has a static
twin beside it.
"""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from latex2mathml.converter import convert
from nbconvert.exporters.html import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from PIL import Image
from traitlets.config import Config

from specbeam.experiments.parameters import read_notebook

from .facts import PICTURES, pictures

TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("specbeam.reports"), autoescape=True)
PAGE_LIMIT = 5_000_000  # bytes
PICTURE_SIZES = ((1600, 256), (1100, 128), (800, 64), (500, 32))  # width in pixels, colours; tried until the page fits
LONG_OUTPUT = 50_000  # characters of an output that is left out when smaller pictures were not enough
SMALLER = "The pictures on this page are smaller than they were made, to keep it small. The executed notebook has both."
CUT = "Long outputs are left out of this page, to keep it small. The executed notebook has them."
NAMED = re.compile(r"\\operatorname\*?\s*\{([^{}]*)\}")  # the converter makes a product of its letters
# TeX puts a thin space after the name of an operator, MathML does not.
OPERATORS = re.compile(r"(<mi>(?:log|ln|exp|arg|max|min|softmax)</mi>)(?=<m(?:i|n|sub|sup|frac|row)\b)")
SCRIPT = re.compile(r"<script\b.*?(</script\s*>|\Z)", re.IGNORECASE | re.DOTALL)


def notebook_html(path: Path, title: str, run: Mapping[str, Any]) -> str:
    """The page of an executed notebook; `run` is what the template shows around it.

    Pictures shrink, then long outputs are left out, until the page has at most PAGE_LIMIT bytes; the page says so.
    Raises ValueError when the notebook cannot be read, and when the page is still too large.
    """
    notebook = read_notebook(path)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["title"] = title
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        cell.outputs = [output for output in map(_for_a_page, cell.outputs) if output is not None]
    original = list(pictures(code))
    html = _export(notebook, path, run)
    for width, colours in PICTURE_SIZES if original else ():
        if _size(html) <= PAGE_LIMIT:
            return html
        for data, picture in original:
            shrink(data, picture, width, colours)
        html = _export(notebook, path, run, [SMALLER])
    if _size(html) > PAGE_LIMIT:
        for cell in code:
            cell.outputs = [_without_long_text(output) for output in cell.outputs]
        html = _export(notebook, path, run, [*([SMALLER] if original else []), CUT])
    if _size(html) > PAGE_LIMIT:
        raise ValueError(
            f"the page of {path} would have {_size(html) / 1e6:.1f} MB, more than {PAGE_LIMIT / 1e6:g}: "
            "print less in the notebook, or look at it in JupyterLab"
        )
    return html


def mathml(tex: str, display: str = "inline") -> str:
    """TeX as MathML, or as readable code where it cannot be converted."""
    try:
        converted = convert(NAMED.sub(r"\\text{\1}", tex.strip()), display=display)
        return OPERATORS.sub(r'\1<mspace width="0.17em"/>', converted)
    except Exception:  # the converter raises many types, and a page with one raw formula beats no page
        return f"<code>{escape(tex)}</code>"


def shrunk(data: bytes, width: int, colours: int) -> tuple[str, bytes] | None:
    """MIME type and bytes of a picture, at most `width` pixels wide, on white; None for bytes that are no picture.

    Charts are smaller as PNG with few colours, photographs as JPEG: the smaller of the two is returned.
    """
    try:
        with Image.open(io.BytesIO(data)) as opened:
            picture = opened.convert("RGBA")
    except Exception:  # Pillow raises many types for broken files, and one for pictures that are suspiciously large
        return None
    canvas = Image.new("RGBA", picture.size, "white")
    canvas.alpha_composite(picture)
    flat = canvas.convert("RGB")
    if flat.width > width:
        flat = flat.resize((width, max(1, round(flat.height * width / flat.width))), Image.Resampling.LANCZOS)
    encodings = (
        ("png", flat.quantize(colours, dither=Image.Dither.NONE), {"optimize": True}),
        ("jpeg", flat, {"quality": 80, "optimize": True}),
    )
    files = []
    for kind, image, options in encodings:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append((f"image/{kind}", buffer.getvalue()))
    return min(files, key=lambda file: len(file[1]))


class _MathmlRenderer(IPythonRenderer):
    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(rf"\begin{{{name}}}{body}\end{{{name}}}", "block")


def _export(notebook: Any, path: Path, run: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    settings = Config()
    settings.TagRemovePreprocessor.remove_cell_tags = {"remove-cell"}
    settings.TagRemovePreprocessor.remove_input_tags = {"remove-input"}
    exporter = HTMLExporter(
        config=settings,
        extra_loaders=[TEMPLATES.loader],
        template_file="notebook.html.j2",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
        embed_images=True,
    )
    exporter.register_filter("markdown2html", _markdown_with_mathml)
    metadata = {"name": path.stem, "path": str(path.parent)}
    return exporter.from_notebook_node(notebook, {"metadata": metadata, "run": {**run, "notes": notes}})[0]


@jinja2.pass_context
def _markdown_with_mathml(context: Any, source: str) -> str:
    attachments = context.get("cell", {}).get("attachments", {})
    renderer = _MathmlRenderer(escape=False, attachments=attachments, exclude_anchor_links=True)
    return SCRIPT.sub("", MarkdownWithMath(renderer=renderer).render(source))


def without_scripts(output: Any) -> Any:
    """The output without what needs a script, changed in place, or None when nothing else is left."""
    data = output.get("data", {})
    scripted = [kind for kind in data if "widget" in kind or "javascript" in kind]
    for kind in scripted:
        del data[kind]
    return None if scripted and set(data) <= {"text/plain"} else output


def _for_a_page(output: Any) -> Any:
    """The output as the page shows it, or None."""
    output = without_scripts(output)
    data = {} if output is None else output.get("data", {})
    if "text/latex" in data and "text/html" not in data:
        data["text/html"] = mathml(data.pop("text/latex").strip().strip("$"), "block")
    if "text/html" in data:
        data["text/html"] = SCRIPT.sub("", data["text/html"])
    return output


def shrink(data: Any, original: bytes, width: int, colours: int) -> None:
    """Put a smaller picture (`shrunk`) in the place of an output's, unless it is not smaller."""
    smaller = shrunk(original, width, colours)
    if smaller is not None and len(smaller[1]) < len(original):
        for kind in PICTURES:
            data.pop(kind, None)
        data[smaller[0]] = base64.b64encode(smaller[1]).decode()


def _without_long_text(output: Any) -> Any:
    texts = [output.text] if output.output_type == "stream" else output.get("data", {}).values()
    if sum(len(str(item)) for item in texts) <= LONG_OUTPUT:
        return output
    return nbformat.v4.new_output("stream", name="stdout", text="(An output was left out here.)")


def _size(html: str) -> int:
    return len(html.encode())
