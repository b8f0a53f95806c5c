"""Pages of runs whose notebooks hold given outputs and texts."""

import json

import nbformat

from specbeam.experiments.records import RunRecord
from specbeam.reports.facts import read_runs
from specbeam.reports.write import page_html

v4 = nbformat.v4
ELSEWHERE = "https://elsewhere.example/"
# Markup that reaches beyond itself in a page that takes it as it is.
BREAKING = {
    "comment": "<pre>see <!-- here</pre>",
    "bang": "<!doctype html><![CDATA[ x",
    "div": "<div><div style='display:none'>",
    "table": "<table><tr><td>x",
    "textarea": "<textarea>abc",
    "style open": "<style>p{color:red}",
    "select": "<select><option>a",
    "pre": "<pre>abc",
    "plaintext": "<plaintext>abc",
    "closing": "</div></div></div></main></body></html>",
    "svg title": "<svg><title>a",
    "svg style": "<svg><style>* {display:none}",
    "math": "<math><mtext><table><mglyph><style><math>",
    "script text": "a <script b",
    "template": "<template>abc",
    "xmp": "<xmp>abc",
    "listing": "<listing>abc",
    "noscript": "<noscript>abc",
    "iframe": "<iframe>abc",
    "iframe source": f"<iframe src='{ELSEWHERE}'></iframe>",
    "frameset": f"<frameset><frame src='{ELSEWHERE}'>",
    "object": f"<object data='{ELSEWHERE}'><embed src='{ELSEWHERE}'>",
    "details": "<details><summary>s",
    "dialog": "<dialog open style='position:fixed'>abc",
    "button": "<button>a",
    "link in link": "<a href='#x'>a",
    "formatting": "<b><i><u><nobr><font size=7>abc",
    "attribute": '<p title="abc',
    "meta": f"<meta http-equiv='refresh' content='0;url={ELSEWHERE}'>",
    "base": f"<base href='{ELSEWHERE}'>",
    "form": f"<form action='{ELSEWHERE}'><button formaction='{ELSEWHERE}'>send</button></form>",
    "style": "<style>body, main, .provenance {display:none}</style>",
    "style of ids": "<style>#provenance, :root, html:has(b), * + * {display:none !important}</style>",
    "import": f"<style>@import '{ELSEWHERE}x.css'; @font-face {{font-family:x; src:url({ELSEWHERE})}}</style>",
    "style ends scope": "<style>}} body {display:none} @media all { x { </style>",
    "link": f"<link rel=stylesheet href='{ELSEWHERE}x.css'>",
    "picture": f"<img src='{ELSEWHERE}x.png' srcset='{ELSEWHERE}y.png 2x'>",
    "background": f"<table background='{ELSEWHERE}x.png'><td style='background:url({ELSEWHERE}x.png)'>x</table>",
    "escaped address": "<p style='background:\\75 rl(https://elsewhere.example/)'>x</p>",
    "film": f"<video poster='{ELSEWHERE}' src='{ELSEWHERE}'><source src='{ELSEWHERE}'><track src='{ELSEWHERE}'>",
    "svg image": f"<svg><image href='{ELSEWHERE}'/><use xlink:href='{ELSEWHERE}#a'/><rect fill='url({ELSEWHERE}#b)'/>",
    "svg animation": f"<svg><a><set attributeName='href' to='{ELSEWHERE}'/><image><animate attributeName='xlink:href' "
    f"values='{ELSEWHERE}'/></image></a>",
    "handler": "<img src=x onerror='document.body.remove()'><a href='javascript:alert(1)'>x</a>",
}


def output(kind, value, plain="plain text", **more):
    return v4.new_output("display_data", data={kind: value, "text/plain": plain, **more})


def stream(text, name="stdout"):
    return v4.new_output("stream", text=text, name=name)


def page(folder, *outputs, texts=(), **fields):
    """The page of a run with a cell of these outputs, and one that says AFTER."""
    cells = [v4.new_markdown_cell("# Whole?"), *map(v4.new_markdown_cell, texts)]
    cells += [v4.new_code_cell("show()", outputs=list(outputs)), v4.new_code_cell("1", outputs=[stream("AFTER")])]
    (folder / "a.ipynb").write_text(json.dumps(v4.new_notebook(cells=cells)))  # in ASCII: it may hold half a character
    RunRecord("a", **fields).save(folder / "a.json")
    return page_html(read_runs(folder)[0])
