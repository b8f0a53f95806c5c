"""The two page templates of `reports`: around an exported notebook, and the index. Values are escaped by Jinja."""

STYLE = """
:root { color-scheme: light; --ink: #1c2330; --faint: #5d6778; --line: #dfe3ea; --paper: #fff; --tint: #f6f7f9;
  --accent: #2457b8; --good: #1d7a46; --bad: #b3261e; }
"""

# nbconvert's lab template loads require.js, MathJax and mermaid from the network; equations are MathML here and
# nothing else needs a script, so the policy forbids both, whatever an output holds.
NOTEBOOK = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; media-src data:">
<link rel="icon" href="data:,">
{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
""" + (
    STYLE
    + """
body.jp-Notebook { padding: 0; overflow: auto; }
main { max-width: 56rem; margin: 0 auto; padding: 0 1rem 4rem; }
.run-bar { font: 14px/1.5 system-ui, sans-serif; color: var(--faint); max-width: 56rem; margin: 0 auto;
  padding: .9rem 1.2rem; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; border-bottom: 1px solid var(--line); }
.run-bar a { color: var(--accent); text-decoration: none; }
.run-bar .failed { color: var(--bad); font-weight: 600; }
.jp-RenderedHTMLCommon { font-size: 16px; line-height: 1.6; }
.jp-RenderedHTMLCommon :is(h1, h2, h3) { line-height: 1.25; }
.jp-Cell { padding: .25rem 0; }
.jp-OutputArea-output { overflow-x: auto; }
.jp-RenderedImage img, .jp-RenderedSVG svg { max-width: 100%; height: auto; }
math[display="block"] { display: block math; margin: 1em 0; font-size: 1.1em; overflow-x: auto; }
</style>
{%- endblock -%}
{%- block body_header -%}
{{ super() }}
<nav class="run-bar">
  <a href="index.html">← all runs</a>
  {% if resources.run.failed %}<span class="failed">failed: {{ resources.run.failed | escape }}</span>{% endif %}
  {% for fact in resources.run.facts %}<span>{{ fact | escape }}</span>{% endfor %}
</nav>
{%- endblock -%}
"""
)

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>specbeam: runs</title>
<style>
""" + (
    STYLE
    + """
@media (prefers-color-scheme: dark) { :root { color-scheme: dark; --ink: #e4e8ef; --faint: #97a1b3;
  --line: #303745; --paper: #161a21; --tint: #1e232c; --accent: #86aef5; --good: #67c58f; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; line-height: 1.35; margin: 0; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
.faint { color: var(--faint); font-size: .87rem; }
article { border-top: 1px solid var(--line); padding: 1.3rem 0; }
header + article { margin-top: 1.5rem; }
.head { display: flex; gap: .3rem 1rem; align-items: baseline; justify-content: space-between; }
.status { font-size: .87rem; font-weight: 600; color: var(--good); }
.failed .status { color: var(--bad); }
.error { color: var(--bad); margin: .5rem 0 0; overflow-wrap: anywhere; }
dl.key { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: .8rem 0 .5rem; }
dl.key dt { color: var(--faint); font-size: .82rem; }
dl.key dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
details { margin-top: .4rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; margin-top: .4rem; font-size: .87rem; }
td { padding: .15rem 1rem .15rem 0; vertical-align: top; overflow-wrap: anywhere; }
td:first-child { color: var(--faint); white-space: nowrap; }
</style>
</head>
<body>
<main>
<header>
<h1>specbeam: runs</h1>
<div class="faint">{{ runs | length }} {{ "run" if runs | length == 1 else "runs" }}
{%- if failed %}, {{ failed }} failed{% endif %}</div>
</header>
{% for run in runs %}
<article{% if run.failed %} class="failed"{% endif %}>
<div class="head">
<h2>{% if run.link %}<a href="{{ run.link }}">{{ run.title }}</a>{% else %}{{ run.title }}{% endif %}</h2>
<span class="status">{{ run.status }}</span>
</div>
<div class="faint">{{ run.facts | join(" · ") }}</div>
{% if run.failed %}<p class="error">{{ run.failed }}</p>{% endif %}
{% if run.key %}<dl class="key">{% for name, value in run.key %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>{% endfor %}
</dl>{% endif %}
{% if run.parameters %}<details class="faint"><summary>{{ run.summary }}</summary>
<table>{% for name, value in run.parameters %}
<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}
</table></details>{% endif %}
</article>
{% else %}
<p>No runs yet: <code>make run-notebooks</code> makes them.</p>
{% endfor %}
</main>
</body>
</html>
"""
)
