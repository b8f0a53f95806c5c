"""What all SVG pictures share: a `Picture` that a notebook shows and that saves itself, its style and its legend.

A picture is one piece of markup without scripts, ids or anything to load. So it works in JupyterLab, in reports under
a strict content security policy and on any other page, any number of times. It is well-formed XML as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import jinja2
from markupsafe import Markup

from specbeam.files import write_atomic

from .palette import PAPER, STATES
from .token_text import columns, lines_of, visible

TEXT, SMALL = 11, 9  # px of the fonts in style.css
COLUMN = 6.8  # px that a column of the monospaced font takes at most
SIGN = 9.0  # px of the sign before a token
LABELS = {name: state.label for name, state in STATES.items()}
BRANCHES = {"running": "running beam", "finished": "returned sequence", "died": "dropped beam"}
NOTES = {"pass": "verified in pass 5", "score": "log-probability (nats)"}
LABELS |= BRANCHES | NOTES | {"draft": "drafting", "target": "the target's pass", "steps": "a committed step"}


def text(words: str) -> str:
    """Text for markup, in attributes too, whose line breaks tooltips show: escaped, and printable as XML.

    § is escaped as well: in pictures it is the prefix of classes.
    """
    printable = "".join(c if c.isprintable() or c == "\n" else visible(c) for c in words)
    return escape(printable, {'"': "&quot;", "\n": "&#10;", "§": "&#167;"})


def templates(package: str) -> jinja2.Environment:
    """The templates of a package. What they show of plain strings is escaped by `text`."""

    def escaped(value: Any) -> Any:
        return Markup(text(value)) if isinstance(value, str) and not isinstance(value, Markup) else value

    loader = jinja2.PackageLoader(package)
    return jinja2.Environment(loader=loader, autoescape=True, finalize=escaped, trim_blocks=True, lstrip_blocks=True)


def counted(number: int, noun: str, plural: str = "s") -> str:
    """A number and its noun: 1 node, 2 nodes."""
    return f"{number} {noun}{'' if number == 1 else plural}"


def duration(seconds: float | None) -> str:
    """12 s, 34 min, 5.6 h; "" for None."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def pass_name(number: int) -> str:
    """What pictures call a target pass; the first one, over the prompt, has no number."""
    return f"pass {number}" if number else "the prompt's pass"


_TEMPLATES = templates("specbeam.pictures")
_TEMPLATES.filters |= {"px": "{:.1f}".format}
_TEMPLATES.globals |= {"PAPER": PAPER, "STATES": STATES, "LABELS": LABELS, "BRANCHES": BRANCHES}
_TEMPLATES.globals |= {"TEXT": TEXT, "SMALL": SMALL, "COLUMN": COLUMN, "SIGN": SIGN}
_TEMPLATES.globals |= {"columns": columns, "counted": counted, "pass_name": pass_name}
_PAGES: Any = _TEMPLATES.get_template("picture.html.j2").module
STYLE = _TEMPLATES.get_template("style.css").render()
# Pictures of another version may be on the same page: classes are named after their style.
PREFIX = "sb" + hashlib.sha256(STYLE.encode()).hexdigest()[:5]
STYLE = STYLE.replace("§", PREFIX)


def markup(template: str, **values: Any) -> Markup:
    """A drawing from a template of this room, § for the prefix of its classes."""
    return Markup(_TEMPLATES.get_template(template).render(values))


@dataclass(frozen=True)
class Canvas:
    """The content of a picture: SVG markup with § for the prefix of its classes and its size in px, or HTML."""

    width: float
    height: float
    svg: Markup
    html: Markup | None = None  # shown on pages in place of the SVG: text that wraps
    drawn_width: float | None = None  # px from the left to the end of the drawing, in a picture that still grows


class Picture:
    """A picture of a decode, drawn when it is first shown.

    `title` states what the picture shows; `html()` and `svg()` are the markup, `save` writes either.
    """

    def __init__(self, title: str, legend: Sequence[str], draw: Callable[[], Canvas]):
        self.title, self.legend, self._draw = title, list(legend), draw

    @cached_property
    def _canvas(self) -> Canvas:
        return self._draw()

    def __repr__(self) -> str:
        return f"Picture({self.title!r})"

    def _repr_html_(self) -> str:
        return self.html()

    def _repr_svg_(self) -> str:
        """For readers that show no styles, as GitHub does; JupyterLab and the reports take the HTML."""
        return self.svg()

    def html(self, *, follow: bool = False) -> str:
        """One <div> with its own style; wide pictures scroll within it.

        With `follow`, a picture that grows to the right is cut where its drawing ends, and that end is visible first.
        """
        canvas = self._canvas
        width = canvas.drawn_width if follow and canvas.drawn_width is not None else canvas.width
        return str(_PAGES.html(self, canvas, width, follow, Markup(STYLE))).replace("§", PREFIX)

    def svg(self) -> str:
        """One <svg> with its own style, title and legend: a file for talks and papers."""
        canvas = self._canvas
        width = max(canvas.width + 24, 360.0)
        lines = lines_of(self.title, int((width - 24) / 7.4))
        top = 17 + 17 * max(len(lines), 1)
        keys, x, y = [], 12.0, canvas.height + top + 14
        for name in self.legend:
            key_width = 34 + 6.6 * len(LABELS[name]) + 16
            if x > 12 and x + key_width > width:
                x, y = 12.0, y + 20
            keys.append((x, y, name))
            x += key_width
        return str(_PAGES.svg(self, lines, keys, canvas, width, y + 28, top, Markup(STYLE))).replace("§", PREFIX)

    def save(self, path: str | Path) -> Path:
        """Write a file that opens by itself: .svg, or .html as a page. Raises ValueError for another ending."""
        kind = Path(path).suffix.lower()
        if kind == ".svg":
            return write_atomic(path, self.svg())
        if kind == ".html":
            return write_atomic(path, page([self], self.title))
        raise ValueError(f"a picture is saved as .svg or .html, and {str(path)!r} ends with {kind or 'neither'}.")


def page(pictures: Sequence[Picture], title: str) -> str:
    """An HTML page of pictures that loads nothing and runs nothing."""
    return str(_PAGES.page(title, [Markup(picture.html()) for picture in pictures]))
