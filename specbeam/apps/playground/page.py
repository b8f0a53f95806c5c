"""The markup around the playground's pictures: its style, and the still page that reports show. Text only."""

from __future__ import annotations

from collections.abc import Sequence

from specbeam.pictures.drawing import text
from specbeam.pictures.style import PREFIX

# JupyterLab's own colours where it is there, so that both of its schemes fit; a report's elsewhere.
_FAINT, _LINE = "var(--jp-ui-font-color2, inherit)", "var(--jp-border-color2, #8c8c8c66)"
_TINT, _ERROR = "var(--jp-layout-color2, #8c8c8c22)", "var(--jp-error-color1, #d55e00)"
_RULES = [
    "{overflow-wrap:anywhere}",
    " h4{font-size:1em;margin:.8em 0 .3em}",
    " p.words{white-space:pre-wrap;margin:.2em 0;line-height:1.5}",
    " pre{white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.4}",
    f" .alert{{border:1px solid {_ERROR};border-left-width:5px;padding:.5em .8em;margin:.5em 0;line-height:1.4}}",
    f" blockquote{{white-space:pre-wrap;margin:.3em 0;padding:.1em 1em;border-left:3px solid {_LINE}}}",
    " table.methods{border-collapse:collapse;font-variant-numeric:tabular-nums;overflow-wrap:normal}",
    f" table.methods th,.§ table.methods td{{padding:.35em .8em;text-align:right;border-bottom:1px solid {_LINE}}}",
    f" table.methods thead th{{font-weight:600;color:{_FAINT}}}",
    " table.methods tbody th{font-weight:400}.§ table.methods tbody *{white-space:nowrap}",
    " table.methods th:first-child,.§ table.methods td:last-child,.§ table.methods th:last-child{text-align:left}",
    f" table.methods tr.chosen{{background:{_TINT}}}.§ table.methods tr.chosen th{{font-weight:700}}",
    " .scroll{overflow-x:auto}",
    f" .{PREFIX}{{margin:.5em 0}}",
    " .widget-html,.§ .widget-html-content{min-width:0;max-width:100%}",
    " .widget-html-content{line-height:1.5;white-space:normal}",
]
STYLE = "<style>" + "".join(f".specbeam-play{rule}".replace("§", "specbeam-play") for rule in _RULES) + "</style>"


def block(title: str, markup: str) -> str:
    """A heading and what stands below it; wide tables scroll."""
    return f'<h4>{text(title)}</h4><div class="scroll">{markup}</div>'


def alert(words: str) -> str:
    """What went wrong, where nobody can overlook it."""
    return f'<div class="alert" role="alert"><b>This did not work.</b> {text(words)}</div>'


def still(blocks: Sequence[str]) -> str:
    """A page's part without scripts, of blocks one below the other."""
    return f'{STYLE}<div class="specbeam-play mathjax_ignore tex2jax_ignore">{"".join(blocks)}</div>'
