"""What all SVG pictures share: a `Picture` that a notebook shows and that saves itself, its style and its legend.

A picture is one piece of markup without scripts, ids or anything to load. So it works in JupyterLab, in reports under
a strict content security policy and on any other page, any number of times. It is well-formed XML as well.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import jinja2

from specbeam.files import write_atomic

from .palette import PAPER, REJECTED, STATES
from .token_text import columns, visible

_TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("specbeam.pictures"), trim_blocks=True, lstrip_blocks=True)
_TEMPLATE: Any = _TEMPLATES.get_template("picture.html.j2").module  # its macros take escaped text
TEXT, SMALL = 11, 9  # px of the fonts in style.css
COLUMN = 6.8  # px that a column of the monospaced font takes at most
SIGN = 9.0  # px of the sign before a token
LABELS = {name: state.label for name, state in STATES.items()}
BRANCHES = {"running": "running beam", "finished": "returned sequence", "died": "dropped beam"}
NOTES = {"pass": "verified in pass 5", "score": "log-probability (nats)"}
LABELS |= BRANCHES | NOTES | {"draft": "drafting", "target": "the target's pass", "steps": "a committed step"}


@dataclass(frozen=True)
class Canvas:
    """The content of a picture: SVG markup with § for the prefix of its classes and its size in px, or HTML."""

    width: float
    height: float
    svg: str
    html: str | None = None  # shown on pages in place of the SVG: text that wraps
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

    def html(self, *, follow: bool = False) -> str:
        """One <div> with its own style; wide pictures scroll within it.

        With `follow`, a picture that grows to the right is cut where its drawing ends, and that end is visible first.
        """
        canvas = self._canvas
        width = canvas.drawn_width if follow and canvas.drawn_width is not None else canvas.width
        keys = [(LABELS[name], _key(name)) for name in self.legend]
        labels = text(self.title), attribute(self.title)
        return _TEMPLATE.html(*labels, STYLE, keys, canvas, width, follow).replace("§", PREFIX)

    def svg(self) -> str:
        """One <svg> with its own style, title and legend: a file for talks and papers."""
        canvas = self._canvas
        width = max(canvas.width + 24, 360.0)
        lines = textwrap.wrap(self.title, int((width - 24) / 7.4), break_long_words=False, break_on_hyphens=False)
        top = 17 + 17 * max(len(lines), 1)
        keys, x, y = [], 12.0, canvas.height + top + 14
        for name in self.legend:
            key_width = 34 + 6.6 * len(LABELS[name]) + 16
            if x > 12 and x + key_width > width:
                x, y = 12.0, y + 20
            keys.append((x, y, LABELS[name], _key(name)))
            x += key_width
        titles = list(map(text, lines)), attribute(self.title)
        return _TEMPLATE.svg(*titles, STYLE, keys, canvas, width, y + 28, top).replace("§", PREFIX)

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
    return _TEMPLATE.page(text(title), [picture.html() for picture in pictures])


def text(words: str) -> str:
    """Text for markup: escaped, § included, which is the prefix of classes; no characters that XML cannot hold."""
    return escape(_printable(words)).replace("§", "&#167;")


def attribute(words: str) -> str:
    """The same as a quoted attribute value; line breaks stay, because tooltips show them."""
    return quoteattr(_printable(words), {"\n": "&#10;", "§": "&#167;"})


def _printable(words: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else visible(c) for c in words)


def svg_text(words: str, x: float, y: float, classes: str, anchor: str = "start") -> str:
    """A text in an SVG; `anchor` is the side that stays at x, as SVG's text-anchor."""
    side = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{side} class="{classes}">{text(words)}</text>'


def token(words: str, state: str, x: float, y: float) -> str:
    """A token in an SVG, its sign in front; a rejected one is struck out where it stays readable."""
    classes = f"§m §{state}" + (" §struck" if state == REJECTED and strikable(words) else "")
    sign = STATES[state].sign
    first = svg_text(sign, x, y, f"§m §b §{state}") if sign else ""
    # the monospaced font may lack other letters: their text is fitted to its columns
    fit = f' textLength="{COLUMN * max(columns(words), 1):.1f}" lengthAdjust="spacingAndGlyphs"'
    fit = "" if words.isascii() else fit
    return first + f'<text x="{x + SIGN * bool(sign):.1f}" y="{y:.1f}" class="{classes}"{fit}>{text(words)}</text>'


def strikable(words: str) -> bool:
    """Whether a text can be read with a line through it: a comma alone cannot."""
    return columns(words) > 1


def counted(number: int, noun: str, plural: str = "s") -> str:
    """A number and its noun: 1 node, 2 nodes."""
    return f"{number} {noun}{'' if number == 1 else plural}"


def mark(branch: str, x: float, y: float) -> str:
    """The end of a branch: ▸ runs on, ■ was returned, | was dropped."""
    if branch == "running":
        return f'<path class="§tip" d="M{x:.1f} {y - 5:.1f}l7 5l-7 5z"/>'
    if branch == "finished":
        return f'<path class="§end" d="M{x:.1f} {y - 4:.1f}h8v8h-8z"/>'
    return f'<path class="§stop" d="M{x + 1:.1f} {y - 6:.1f}v12"/>'


def _key(name: str) -> str:
    """The sample of a legend, 26 × 16."""
    if name in STATES:
        sign = f'<text x="13" y="12" text-anchor="middle" class="§m §b §{name}">'
        return f'<rect class="§{name}" x="2" y="1.5" width="22" height="13" rx="3"/>{sign}{STATES[name].sign}</text>'
    if name in BRANCHES:
        return f'<path class="§{name}" d="M1 8H16"/>{mark(name, 17, 8)}'
    if name in NOTES:
        sample = "p5" if name == "pass" else "−0.7"
        return f'<text x="13" y="11" text-anchor="middle" class="§n">{sample}</text>'
    x, width = (8, 10) if name == "steps" else (4, 18)
    return f'<rect class="§{name}" x="{x}" y="3" width="{width}" height="10"/>'


def _style() -> str:
    """style.css with the colours of both schemes. JupyterLab and Gradio have schemes of their own: they win."""
    light, dark = _variables(dark=False), _variables(dark=True)
    rules = [
        f".§{{{light}}}",
        f"@media (prefers-color-scheme:dark){{.§{{{dark}}}}}",
        f'[data-jp-theme-light="true"] .§{{{light}}}[data-jp-theme-light="false"] .§,.dark .§{{{dark}}}',
        _TEMPLATES.get_template("style.css").render(),
    ]
    for name, state in STATES.items():
        line = {"none": "none", "": "solid", "4 3": "dashed"}.get(state.dash, "dotted")
        border = "" if line == "none" else f";border:1.5px {line} var(--{name}-edge)"
        dash = "" if line in ("none", "solid") else f";stroke-dasharray:{state.dash}"
        rules += [
            f".§ rect.§{name}{{fill:var(--{name}-fill);stroke:var(--{name}-edge);stroke-width:1.5{dash}}}",
            f".§ text.§{name}{{fill:var(--{name}-ink)}}",
            f".§ .§t span.§{name}{{background:var(--{name}-fill);color:var(--{name}-ink){border}}}",
        ]
    return "\n".join(rules)


def _variables(dark: bool) -> str:
    colours = {name: pair[dark] for name, pair in PAPER.items()}
    for name, state in STATES.items():
        look = state.dark if dark else state.light
        colours |= {f"{name}-fill": look.fill, f"{name}-edge": look.border, f"{name}-ink": look.ink}
    values = "".join(f"--{name}:{value};" for name, value in colours.items())
    return f"{values}color-scheme:{'dark' if dark else 'light'}"


STYLE = _style()
# Pictures of another version may be on the same page: classes are named after their style.
PREFIX = "sb" + hashlib.sha256(STYLE.encode()).hexdigest()[:5]
STYLE = STYLE.replace("§", PREFIX)
