"""What all SVG pictures share: a `Picture` that a notebook shows and that saves itself, its style, and its legend.

A picture is one piece of markup without scripts, ids or anything to load, so it works in JupyterLab, in reports under
a strict content security policy, and on any other page, however many stand there. It is well-formed XML as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from specbeam.files import write_atomic

from .palette import REJECTED, STATES
from .style import PREFIX, STYLE
from .token_text import columns, visible

_XMLNS = "http://www.w3.org/2000/svg"
# Without a script, only a page from right to left begins to scroll at its right end.
_FROM_RIGHT, _FROM_LEFT = ' style="direction:rtl"', ' style="direction:ltr;margin:0 auto 0 0"'
COLUMN = 6.8  # px that a column of the monospaced font takes at most
SIGN = 9.0  # px that a sign before a token takes
BRANCHES = {"running": "running beam", "finished": "returned sequence", "died": "dropped beam"}
NOTES = {"pass": "verified in pass 5", "score": "log-probability (nats)"}
BARS = {"draft": "drafting", "target": "the target's pass", "steps": "a committed step"}


@dataclass(frozen=True)
class Canvas:
    """What is drawn: SVG markup with § for the prefix of its classes, and its size in px; or HTML beside it."""

    width: float
    height: float
    svg: str
    html: str | None = None  # what a page shows in place of the SVG: text that wraps
    reached: float | None = None  # px from the left to where the drawing ends by now, for one that grows


class Picture:
    """A picture of a decode. It draws itself when it is looked at.

    `title` says what is to be seen; `html()` and `svg()` are the markup, `save` writes either.
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
        """One <div> with its own style; wider pictures scroll within it.

        With `follow` a picture that grows to the right is cut where it ends by now, and that end is in sight first.
        """
        canvas = self._canvas
        width = canvas.reached if follow and canvas.reached is not None else canvas.width
        keys = "".join(
            f'<span class="§k"><svg xmlns="{_XMLNS}" width="26" height="16" viewBox="0 0 26 16" aria-hidden="true">'
            f"{_key(name)}</svg>{escape(_label(name))}</span>"
            for name in self.legend
        )
        body = canvas.html or (
            f'<svg xmlns="{_XMLNS}" width="{width:.0f}" height="{canvas.height:.0f}" '
            f'viewBox="0 0 {width:.0f} {canvas.height:.0f}" role="img" aria-label={attribute(self.title)}'
            f"{_FROM_LEFT if follow else ''}>{canvas.svg}</svg>"
        )
        scroll = "" if canvas.html else ' tabindex="0"'  # so that keys can scroll it
        if follow:
            scroll += _FROM_RIGHT
        markup = (
            f'<div class="§ specbeam-picture mathjax_ignore tex2jax_ignore"><style>{STYLE}</style>'
            f'<div class="§h">{text(self.title)}</div><div class="§s"{scroll}>{body}</div><div class="§l">{keys}</div>'
            "</div>"
        )
        return markup.replace("§", PREFIX)

    def svg(self) -> str:
        """One <svg> with its own style, title and legend: a file for talks and papers."""
        canvas = self._canvas
        width = max(canvas.width + 24, 360.0)
        head, keys, x, y = 34, [], 12.0, canvas.height + 34 + 14
        lines = [""]
        for word in self.title.split():
            longer = f"{lines[-1]} {word}".strip()
            if len(longer) * 7.4 > width - 24 and lines[-1]:
                lines.append(word)
            else:
                lines[-1] = longer
        head += 17 * (len(lines) - 1)
        y += 17 * (len(lines) - 1)
        for name in self.legend:
            wide = 34 + 6.6 * len(_label(name)) + 16
            if x > 12 and x + wide > width:
                x, y = 12.0, y + 20
            label = f'<text x="31" y="12" class="§f">{text(_label(name))}</text>'
            keys.append(f'<g transform="translate({x:.0f} {y:.0f})">{_key(name)}{label}</g>')
            x += wide
        height = y + 28
        title = "".join(
            f'<text x="12" y="{22 + 17 * i}" class="§b" style="font-size:13px">{text(line)}</text>'
            for i, line in enumerate(lines)
        )
        markup = (
            f'<svg xmlns="{_XMLNS}" class="§" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label={attribute(self.title)}>'
            f"<style>{STYLE}</style>"
            f'<rect class="§paper" width="100%" height="100%"/>{title}'
            f'<g transform="translate(12 {head})">{canvas.svg}</g>{"".join(keys)}</svg>'
        )
        return markup.replace("§", PREFIX)

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
    body = "\n".join(f"<section>{picture.html()}</section>" for picture in pictures)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>:root{{color-scheme:light dark}}body{{margin:0;padding:12px}}"
        f"section{{margin-bottom:24px}}</style></head><body>\n{body}\n</body></html>\n"
    )


def text(words: str) -> str:
    """Text for markup: escaped, and without what XML does not hold. § is the prefix of classes, so it is escaped."""
    safe = "".join(c if c.isprintable() or c == "\n" else visible(c) for c in words)
    return escape(safe).replace("§", "&#167;")


def attribute(words: str) -> str:
    """A quoted attribute value of the same kind; line breaks stay, as tooltips show them."""
    safe = "".join(c if c.isprintable() or c == "\n" else visible(c) for c in words)
    return quoteattr(safe, {"\n": "&#10;", "§": "&#167;"})


def token(words: str, x: float, y: float, classes: str) -> str:
    """A token's text at a place of an SVG; what a monospaced font may lack is fitted to the room it was given."""
    fit = (
        ""
        if words.isascii()
        else f' textLength="{COLUMN * max(columns(words), 1):.1f}" lengthAdjust="spacingAndGlyphs"'
    )
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{classes}"{fit}>{text(words)}</text>'


def signed(words: str, state: str, x: float, y: float) -> str:
    """A token's sign and text at a place of an SVG; one struck out only if it can still be read then."""
    sign = STATES[state].sign
    classes = f"§m §{state}" + (" §struck" if state == REJECTED and strikable(words) else "")
    if not sign:
        return token(words, x, y, classes)
    first = f'<text x="{x:.1f}" y="{y:.1f}" class="§m §b §{state}">{sign}</text>'
    return first + token(words, x + SIGN, y, classes)


def strikable(words: str) -> bool:
    """Whether a text can be read with a line through it: a comma alone cannot."""
    return columns(words) > 1


def counted(number: int, noun: str, plural: str = "s") -> str:
    """A number and what it counts."""
    return f"{number} {noun}{'' if number == 1 else plural}"


def _label(name: str) -> str:
    return STATES[name].label if name in STATES else {**BRANCHES, **BARS, **NOTES}[name]


def _key(name: str) -> str:
    """The sample of a legend, 26 × 16."""
    if name in STATES:
        sign = f'<text x="13" y="12" text-anchor="middle" class="§m §b §{name}">'
        return f'<rect class="§{name}" x="2" y="1.5" width="22" height="13" rx="3"/>{sign}{STATES[name].sign}</text>'
    if name in BRANCHES:
        return f'<path class="§{name}" d="M1 8H16"/>{mark(name, 17, 8)}'
    if name == "draft":
        return '<rect class="§draft" x="4" y="3" width="18" height="10"/>'
    if name in NOTES:
        sample = "p5" if name == "pass" else "−0.7"
        return f'<text x="13" y="11" text-anchor="middle" class="§n">{sample}</text>'
    x, width = (8, 10) if name == "steps" else (4, 18)
    return f'<rect class="§{name}" x="{x}" y="3" width="{width}" height="10"/>'


def mark(branch: str, x: float, y: float) -> str:
    """What a branch ends with: ▸ runs on, ■ was returned, | was dropped."""
    if branch == "running":
        return f'<path class="§tip" d="M{x:.1f} {y - 5:.1f}l7 5l-7 5z"/>'
    if branch == "finished":
        return f'<path class="§end" d="M{x:.1f} {y - 4:.1f}h8v8h-8z"/>'
    return f'<path class="§stop" d="M{x + 1:.1f} {y - 6:.1f}v12"/>'
