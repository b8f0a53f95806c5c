"""An executed notebook as one HTML page that needs no network and no script, and stays small enough to mail.

Equations become MathML and images are embedded. Widgets would need scripts, so they are dropped: each has a static
twin beside it. What outputs and texts hold is `contained`: it cannot reach the rest of the page.
"""

import base64
import io
import re
import secrets
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from nbconvert.exporters.html import HTMLExporter
from PIL import Image
from traitlets.config import Config

from specbeam.experiments.parameters import read_notebook

from .characters import printable, writable
from .contained import contained
from .facts import PICTURES, pictures
from .formulas import markdown_html
from .formulas import mathml as mathml  # public name
from .outputs import for_a_page
from .terminal_text import coloured

TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("specbeam.reports"), autoescape=True)
PAGE_LIMIT = 5_000_000  # bytes
PICTURE_SIZES = ((1600, 256), (1100, 128), (800, 64), (500, 32))  # width in pixels, colours; tried until the page fits
LONG_OUTPUT = 50_000  # characters of an output that is left out when smaller pictures were not enough
SMALLER = "The pictures on this page are smaller than they were made, to keep it small. The executed notebook has both."
CUT = "Long outputs are left out of this page, to keep it small. The executed notebook has them."


def notebook_html(path: Path, title: str, run: Mapping[str, Any]) -> str:
    """The page of an executed notebook; `run` is what the template shows around it.

    Pictures shrink, then long outputs are left out, until the page has at most PAGE_LIMIT bytes; the page says so.
    Raises ValueError when the notebook cannot be read, and when the page is still too large.
    """
    notebook = printable(read_notebook(path))
    notebook.metadata.pop("widgets", None)
    notebook.metadata["title"] = title
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    _contain(notebook, _folder(notebook, path))
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


def _contain(notebook: Any, folder: Path) -> None:
    """Put in place of texts and outputs the markup that a page shows of them."""
    number = 0

    def contain(html: str, attached: Mapping[str, str] | None = None) -> str:
        nonlocal number
        number += 1
        return contained(html, number, folder, attached)

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = for_a_page(cell.outputs, contain)
        elif cell.cell_type == "markdown":
            attached = {name: _address(data) for name, data in cell.get("attachments", {}).items() if data}
            cell.source = contain(markdown_html(cell.source), attached)
        elif cell.metadata.get("raw_mimetype", cell.metadata.get("format")) == "text/html":
            cell.source = contain(cell.source)
        elif cell.cell_type == "raw" and cell.source:
            cell.source = f"<pre>\n{escape(cell.source)}</pre>"  # a parser drops the first line feed


def _address(attachment: Mapping[str, str]) -> str:
    kind = next((kind for kind in ("image/svg+xml", *PICTURES) if kind in attachment), next(iter(attachment)))
    return f"data:{kind};base64,{attachment[kind]}"


def _folder(notebook: Any, path: Path) -> Path:
    """Where the notebook's pictures are: beside its source, which papermill names, or else beside itself."""
    source = Path(notebook.metadata.get("papermill", {}).get("input_path") or path)
    return (source if source.is_file() else path).parent


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
    )
    # The exporter parses its page once more, and by another parser: it sees names in place of the parts.
    parts: list[str] = []
    key = secrets.token_hex(8)

    def part(html: str) -> str:
        parts.append(html)
        return f"[{key} {len(parts) - 1}]"

    exporter.register_filter("part", part)
    exporter.register_filter("ansi2html", lambda text: part(coloured(text)))
    metadata = {"name": path.stem, "path": str(path.parent)}
    page = exporter.from_notebook_node(notebook, {"metadata": metadata, "run": {**run, "notes": notes}})[0]
    return writable(re.sub(rf"\[{key} (\d+)\]", lambda found: parts[int(found[1])], page))


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
