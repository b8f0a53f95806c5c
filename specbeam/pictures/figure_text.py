"""The words of a chart, which may be anybody's: shown as they are, in glyphs that exist, and within their place.

matplotlib takes text between dollar signs for mathematics, draws boxes for glyphs that its font lacks, and lets long
words push the axes aside.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

from .token_text import visible

LINES = 3  # into which a line of a title is broken at most; what is longer ends with …
SHARE = 0.45  # of the figure's width that a legend's line or an annotation takes at most
OVER = 1.2  # times its place that a line of a title may take; the picture grows with it
TICKS = 0.3  # and the name of a tick
# Fonts with the letters of many languages, by preference; any other installed one comes after them.
FALLBACKS = (
    *("Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans", "WenQuanYi Micro Hei", "PingFang SC"),
    *("Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Apple SD Gothic Neo", "Arial Unicode MS"),
)
UNFIT = ("cm", "STIXNonUnicode", "STIXSize", "Last Resort")  # of mathematics, other encodings, or boxes only


def fit_words(figure: Any, renderer: Any) -> None:
    """Prepare every text of a figure for being drawn. Doing it again changes nothing."""
    whole, height = figure.bbox.width, figure.bbox.height
    for text in figure.texts:
        _fit(text, renderer, whole, LINES)
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    for axes in figure.axes:
        place = axes.get_subplotspec()
        grid = place.get_gridspec() if place is not None else None
        width, tall = (whole / grid.ncols, height / grid.nrows) if grid is not None else (whole, height)
        for text in axes.get_children():
            if isinstance(text, Text):
                title = text not in axes.texts
                _fit(text, renderer, width if title else SHARE * whole, LINES if title else 1)
        _fit(axes.xaxis.label, renderer, width, LINES)
        _fit(axes.yaxis.label, renderer, tall, LINES)
        for axis in (axes.xaxis, axes.yaxis):
            _fit_ticks(axis, renderer, TICKS * whole)
    for text in [text for legend in legends for text in (*legend.get_texts(), legend.get_title())]:
        _fit(text, renderer, SHARE * whole, 1)


def _fit_ticks(axis: Any, renderer: Any, limit: float) -> None:
    """Names that were given to ticks. What a formatter makes of numbers may be mathematics, and stays."""
    locator, formatter = axis.get_major_locator(), axis.get_major_formatter()
    if not isinstance(locator, FixedLocator) or not isinstance(formatter, FuncFormatter | FixedFormatter):
        return
    given = [formatter(place, number) for number, place in enumerate(locator())]
    texts = axis.get_majorticklabels()
    fitted = [_fitted(words, text, renderer, limit, 1) for words, text in zip(given, texts, strict=True)]
    if fitted != given:
        axis.set_ticklabels(fitted)


def _fit(text: Text, renderer: Any, limit: float, lines: int) -> None:
    text.set_text(_fitted(text.get_text(), text, renderer, limit, lines))


def _fitted(words: str, text: Text, renderer: Any, limit: float, lines: int) -> str:
    """The words as `text` shows them: each line within `limit` px, cut or, with more `lines`, wrapped."""
    if text.get_parse_math():
        text.set_parse_math(False)
    words = _drawable("".join(c if c.isprintable() or c == "\n" else visible(c) for c in words), text)

    def width(line: str) -> float:
        return renderer.get_text_width_height_descent(line, text.get_fontproperties(), False)[0] if line else 0.0

    shown = []
    for line in words.split("\n"):
        if width(line) <= (limit if lines == 1 else OVER * limit):
            shown.append(line)
            continue
        broken = [line]
        if lines > 1:
            broken = textwrap.wrap(line, max(1, int(len(line) * limit / width(line))), break_on_hyphens=False)
        rest = [broken[lines - 1] + " …"] if len(broken) > lines else broken[lines - 1 :]
        shown += [_cut(each, width, limit) for each in (*broken[: lines - 1], *rest)]
    return "\n".join(shown)


def _cut(line: str, width: Callable[[str], float], limit: float) -> str:
    while width(line) > limit and len(line) > 2:
        line = line[: min(len(line) - 2, int(len(line) * limit / width(line)))] + "…"
    return line


def _drawable(words: str, text: Text) -> str:
    """The words, for letters that the text's font lacks in a further font as well; a letter in none as its number."""
    own = [_path(family) for family in text.get_fontfamily()]
    missing = [c for c in dict.fromkeys(words) if c != "\n" and not any(ord(c) in _letters(path) for path in own)]
    families = dict.fromkeys(family for c in missing if (family := _family(c)))
    if families:
        text.set_fontfamily([*text.get_fontfamily(), *families])
    return "".join(f"⟨U+{ord(c):04X}⟩" if c in missing and _family(c) is None else c for c in words)


@cache
def _family(character: str) -> str | None:
    """An installed font that has the character."""
    installed = {font.name: font.fname for font in font_manager.fontManager.ttflist if not font.name.startswith(UNFIT)}
    ordered = [*(name for name in FALLBACKS if name in installed), *sorted({*installed} - {*FALLBACKS})]
    return next((name for name in ordered if ord(character) in _letters(installed[name])), None)


def _path(family: str) -> str:
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


@cache
def _letters(path: str) -> frozenset[int]:
    with suppress(RuntimeError, OSError):  # fonts of coloured pictures, and files that are gone
        return frozenset(font_manager.get_font(path).get_charmap())
    return frozenset()
