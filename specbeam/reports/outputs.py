"""What a page shows of an output: of the types in which it comes the one that JupyterLab would show, as markup.

What needs a script has none here; then the output's next type is shown, in the end its plain text.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import nbformat

from .formulas import latex_html, markdown_html
from .terminal_text import joined_streams

PLAIN = "text/plain"
RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp")
# The order of JupyterLab's ranks. Types that need a script it does not have here (Vega, Plotly) are not among them.
ORDER = (
    *("application/json", "text/html", "text/markdown", "text/latex", "image/svg+xml", *RASTER),
    *("text/vnd.mermaid", "application/pdf", "audio/*", "video/*", PLAIN),
)
ADDRESS = re.compile(r"[A-Za-z0-9+/=\s]*")  # of base64
Contain = Callable[[str], str]


def without_scripts(output: Any) -> Any:
    """The output without what needs a script, changed in place, or None when nothing else is left."""
    data = output.get("data", {})
    scripted = [kind for kind in data if "widget" in kind or "javascript" in kind]
    for kind in scripted:
        del data[kind]
    return None if scripted and set(data) <= {PLAIN} else output


def for_a_page(outputs: list[Any], contain: Contain) -> list[Any]:
    """The outputs of a cell as a page shows them: one type each, HTML `contain`ed.

    PNG, JPEG, SVG and plain text stay what they are, everything else becomes HTML.
    """
    return [shown for output in joined_streams(outputs) if (shown := _shown(output, contain)) is not None]


def _shown(output: Any, contain: Contain) -> Any:
    if output.output_type == "error" and not output.traceback:
        output.traceback = [f"{output.ename}: {output.evalue}"]
    if "data" not in output:
        return output
    widgets = {kind for kind in output.data if "widget" in kind}
    if widgets and set(output.data) <= {PLAIN, *widgets}:
        return None  # its text says only what it would be
    kind, markup = next(_candidates(output, contain), (PLAIN, None))
    if markup is None and kind == PLAIN and PLAIN not in output.data:
        names = ", ".join(map(escape, output.data)) or "no type"
        kind, markup = "text/html", f'<p class="note">An output that this page cannot show ({names}).</p>'
    output.data = nbformat.from_dict({kind: output.data[kind] if markup is None else markup})
    return output


def _candidates(output: Any, contain: Contain) -> Iterator[tuple[str, str | None]]:
    """The output's types in order, each with its markup, or with None where nbconvert knows how to show it."""
    data = output.data
    for wanted in ORDER:
        for kind in fnmatch.filter(data, wanted):
            value = data[kind]
            if kind in ("image/png", "image/jpeg", PLAIN):
                yield kind, None
            elif kind == "image/svg+xml":
                data[kind] = _with_namespace(value)
                yield kind, None
            elif markup := _markup(kind, value, output.get("metadata", {}), contain):
                yield "text/html", markup


def _markup(kind: str, value: Any, metadata: Any, contain: Contain) -> str:
    if kind == "application/json" or not isinstance(value, str):
        return f"<pre>{escape(json.dumps(value, ensure_ascii=False, indent=2))}</pre>"
    if kind == "text/html":
        return contain(value)
    if kind == "text/markdown":
        return f'<div class="jp-RenderedMarkdown">{contain(markdown_html(value))}</div>'
    if kind == "text/latex":
        return contain(latex_html(value))
    if kind == "text/vnd.mermaid":
        return f"<pre>{escape(value)}</pre>"
    if not ADDRESS.fullmatch(value):
        return ""
    address = f"data:{escape(kind)};base64,{''.join(value.split())}"
    if kind in RASTER:
        sizes = metadata.get(kind, metadata)
        size = "".join(f' {name}="{escape(str(sizes[name]))}"' for name in ("width", "height") if name in sizes)
        return f'<div class="jp-RenderedImage"><img alt="picture" src="{address}"{size}></div>'
    if kind == "application/pdf":
        return f'<a download="output.pdf" href="{address}">PDF, {max(1, len(value) * 3 // 4000):,} kB</a>'
    name = kind.partition("/")[0]
    return f'<{name} controls src="{address}"></{name}>'


def _with_namespace(svg: str) -> str:
    """The SVG as a file of its own, which it is as a picture: JupyterLab adds the namespace as well."""
    if re.search(r"<svg[^>]*\sxmlns\s*=", svg):
        return svg
    return svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
