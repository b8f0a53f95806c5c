"""The style that all reports share, and the template of an executed notebook's page.

nbconvert renders templates without escaping, so this one escapes by itself.
"""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --faint: #5b6575; --line: #dfe3ea; --paper: #fff; --tint: #f5f6f8;
  --accent: #2457b8; --good: #1d7a46; --bad: #b3261e; --keyword: #6b3fa0; --string: #2f6b4f; --card: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ef; --faint: #9aa4b6; --line: #303745; --paper: #161a21;
  --tint: #1e232c; --accent: #86aef5; --good: #67c58f; --bad: #f28b82; --keyword: #c3a6f0; --string: #9ccfb2; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
summary { cursor: pointer; }
"""

# Nothing in a page may load or run anything, whatever an output holds. nbconvert's own page would load require.js,
# MathJax and mermaid from the network; its markup of cells is kept, its page and its 240 kB of CSS are not.
NOTEBOOK = """
{%- extends 'lab/base.html.j2' -%}
{%- block header -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:">
<link rel="icon" href="data:,">
<title>{{ nb.metadata.title | escape }}</title>
<style>
""" + (
    STYLE
    + """
main, .run-bar { max-width: 54rem; margin: 0 auto; padding: 0 1.2rem; }
main { padding-bottom: 4rem; overflow-wrap: break-word; }
.run-bar { color: var(--faint); font-size: .87rem; padding-top: .9rem; padding-bottom: .9rem;
  display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; border-bottom: 1px solid var(--line); }
.run-bar .failed { color: var(--bad); font-weight: 600; overflow-wrap: anywhere; }
.run-bar label { margin-left: auto; cursor: pointer; }
body:has(#show-code:not(:checked)) .code { display: none; }
.note { color: var(--faint); font-size: .87rem; border-left: 3px solid var(--line); padding-left: .8rem; }
h1, h2, h3 { line-height: 1.25; margin: 1.6em 0 .5em; }
h1 { font-size: 1.75rem; margin-top: 1em; }
h2 { font-size: 1.3rem; }
h3 { font-size: 1.08rem; }
.jp-Cell { margin: .55rem 0; }
pre, code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
:not(pre) > code { font-size: .88em; background: var(--tint); padding: .1em .3em; border-radius: 3px; }
pre { font-size: .8rem; line-height: 1.5; margin: 0; overflow-x: auto; }
.jp-RenderedMarkdown pre { background: var(--tint); padding: .6rem .8rem; border-radius: 4px; }
.code { font-size: .75rem; color: var(--faint); border-left: 2px solid var(--line); padding: .1rem 0 .1rem .8rem; }
.code pre { font-size: inherit; }
.code summary { font-family: ui-monospace, monospace; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.highlight :is(.k, .kn, .kc, .kd, .ow) { color: var(--keyword); }
.highlight :is(.s1, .s2, .sa, .sd, .si, .se) { color: var(--string); }
.highlight :is(.c1, .cm, .ch) { font-style: italic; }
.jp-OutputArea-output { overflow-x: auto; margin: .5rem 0; }
.jp-RenderedText pre { color: var(--ink); }
.jp-RenderedText[data-mime-type="text/plain"] pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"] { border-left: 3px solid var(--bad);
  padding-left: .8rem; }
img, svg { max-width: 100%; height: auto; }
:is(.jp-RenderedImage, .jp-RenderedSVG) img { background: var(--card); border-radius: 4px; display: block; }
.jp-RenderedHTML:has(style, [style*="color"], [style*="background"]):not(:has(.specbeam-picture)) {
  background: var(--card); color: #1c2330; color-scheme: light; border-radius: 4px; }
@media (prefers-color-scheme: dark) {
  :is(.jp-RenderedImage, .jp-RenderedSVG) img { padding: .5rem; }
  .jp-RenderedHTML:has(style, [style*="color"], [style*="background"]):not(:has(.specbeam-picture)) {
    padding: .5rem; } }
table { border-collapse: collapse; font-size: .88rem; display: block; width: fit-content; max-width: 100%;
  overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .9rem .28rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
td.number, :is(td, th)[style*="text-align:right"], :is(td, th)[style*="text-align: right"] { text-align: right; }
blockquote { margin: 1em 0; padding-left: 1rem; border-left: 3px solid var(--line); }
math[display="block"] { display: block math; margin: 1em 0; font-size: 1.08em; overflow-x: auto; overflow-y: hidden;
  padding: .2em 0; }
.provenance { border-top: 1px solid var(--line); margin-top: 3rem; font-size: .88rem; }
.provenance td { border: 0; overflow-wrap: anywhere; }
.provenance td:first-child { color: var(--faint); white-space: nowrap; }
.provenance pre { background: var(--tint); padding: .6rem .8rem; border-radius: 4px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.provenance details { margin-top: .6rem; }
.ansi-red-fg, .ansi-red-intense-fg { color: var(--bad); }
.ansi-green-fg, .ansi-green-intense-fg { color: var(--good); }
.ansi-blue-fg, .ansi-blue-intense-fg, .ansi-cyan-fg { color: var(--accent); }
.ansi-yellow-fg, .ansi-magenta-fg { color: var(--keyword); }
.ansi-bold { font-weight: 600; }
@media (max-width: 40rem) {
  .code pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  .provenance :is(tr, td) { display: block; }
  .provenance tr { margin-bottom: .3rem; }
  .provenance td { padding-bottom: 0; } }
@media print { .run-bar label, .run-bar a { display: none; } pre { white-space: pre-wrap; } }
</style>
</head>
{%- endblock header -%}
{%- block body_header -%}
<body>
<nav class="run-bar">
  <a href="{{ resources.run.index | escape }}">← all runs</a>
  {% if resources.run.failed %}<span class="failed">failed: {{ resources.run.failed | escape }}</span>{% endif %}
  {% for fact in resources.run.facts %}<span>{{ fact | escape }}</span>{% endfor %}
  <a href="#provenance">how it was made</a>
  <label><input type="checkbox" id="show-code" checked> code</label>
</nav>
<main>
{% for note in resources.run.notes %}<p class="note">{{ note | escape }}</p>{% endfor %}
{%- endblock body_header -%}
{%- block input -%}
{%- set lines = cell.source.splitlines() -%}
{%- if lines | length > 15 -%}
<details class="code"><summary>{{ lines | length }} lines of code: {{ lines[0] | escape }}</summary>
{{ cell.source | highlight_code(metadata=cell.metadata) }}</details>
{%- elif lines -%}
<div class="code">{{ cell.source | highlight_code(metadata=cell.metadata) }}</div>
{%- endif -%}
{%- endblock input -%}
{%- block body_footer -%}
<section class="provenance" id="provenance">
<h2>How this run was made</h2>
{% if resources.run.commands %}<p>The same run again{% if resources.run.dirty %}, as far as the commit holds it
{%- endif %}:</p>
<pre>{{ resources.run.commands | join("\\n") | escape }}</pre>{% endif %}
<table>
{% for name, value in resources.run.provenance %}<tr><td>{{ name | escape }}</td><td>{{ value | escape }}</td></tr>
{% endfor %}</table>
{% for title, lines in resources.run.tables if lines %}<details{% if title == "parameters" %} open{% endif %}>
<summary>{{ title }}</summary>
<table>
{% for name, value in lines %}<tr><td>{{ name | escape }}</td><td>{{ value | escape }}</td></tr>
{% endfor %}</table></details>
{% endfor %}
</section>
</main>
</body>
{%- endblock body_footer -%}
{%- block footer -%}
</html>
{%- endblock footer -%}
"""
)
