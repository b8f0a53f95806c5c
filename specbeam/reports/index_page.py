"""The template of the index of runs: a table that a small script of its own sorts and filters. Jinja escapes values."""

import base64
import hashlib

from .pages import STYLE

# Sorts and filters rows that are there without it: the controls stay hidden where scripts do not run.
SCRIPT = """
"use strict";
const body = document.querySelector("tbody"), rows = [...body.rows], text = document.querySelector("#text");
const state = document.querySelector("#state"), order = document.querySelector("#order");
const shown = document.querySelector("#shown"), heads = [...document.querySelectorAll("th[data-sort]")];
const figures = [...document.querySelectorAll("figure")];
function value(row, column) {
  const found = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  return found !== "" && !isNaN(found) ? Number(found) : found.toLowerCase();
}
function compare(one, other) {
  if (one === "" || other === "") return (one === "") - (other === "");
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return one < other ? -1 : one > other ? 1 : 0;
}
function sort(column, falling) {
  const sign = (one, other) => falling && one !== "" && other !== "" ? -compare(one, other) : compare(one, other);
  rows.sort((one, other) => sign(value(one, column), value(other, column)));
  body.append(...rows);
  for (const head of heads) head.removeAttribute("aria-sort");
  document.querySelectorAll("th")[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
  order.value = column + (falling ? "-" : "+");
}
function meets(row, word) {
  const [name, wanted] = word.split("=");
  for (const term of row.querySelectorAll("dt"))
    if (wanted !== undefined && term.textContent.toLowerCase() === name)
      return term.nextElementSibling.textContent.toLowerCase() === wanted;
  return row.textContent.toLowerCase().includes(word);
}
function filter() {
  const words = text.value.toLowerCase().replace(/\\s*=\\s*/g, "=").split(/\\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    row.hidden = !words.every(word => meets(row, word)) || (state.value && row.dataset.status !== state.value);
    count += !row.hidden;
    for (const figure of figures) if (figure.dataset.run === row.dataset.run) figure.hidden = row.hidden;
  }
  shown.textContent = count < rows.length ? count + " shown" : "";
}
for (const head of heads) {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  button.onclick = () => sort(head.cellIndex, head.getAttribute("aria-sort") === "ascending");
  head.replaceChildren(button);
  for (const [sign, word] of [["+", "rising"], ["-", "falling"]])
    order.add(new Option("by " + button.textContent.toLowerCase() + ", " + word, head.cellIndex + sign));
}
order.onchange = () => sort(parseInt(order.value), order.value.endsWith("-"));
text.oninput = state.onchange = filter;
document.querySelector("#controls").hidden = false;
"""
SCRIPT_HASH = "sha256-" + base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src '{{ script_hash }}'">
<link rel="icon" href="data:,">
<title>specbeam: runs</title>
<style>
""" + (
    STYLE
    + """
main { max-width: 84rem; margin: 0 auto; padding: 1.6rem 1.2rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; }
[hidden] { display: none !important; }
.faint { color: var(--faint); font-size: .84rem; overflow-wrap: anywhere; }
#controls { display: flex; flex-wrap: wrap; gap: .5rem .8rem; align-items: center; margin-top: .9rem; }
#controls :is(input, select) { font: inherit; font-size: .9rem; padding: .3rem .5rem; color: inherit; max-width: 100%;
  background: var(--tint); border: 1px solid var(--line); border-radius: 4px; }
#controls input { flex: 1 1 12rem; max-width: 24rem; }
#order { display: none; }
table.runs { border-collapse: collapse; width: 100%; margin-top: 1.1rem; font-size: .88rem; }
.runs :is(th, td) { text-align: left; vertical-align: top; padding: .6rem .9rem .6rem 0; }
.runs tr { border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-weight: 600; white-space: nowrap; }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort="ascending"] button::after { content: " ↑"; }
th[aria-sort="descending"] button::after { content: " ↓"; }
.question { font-size: .98rem; font-weight: 600; line-height: 1.35; min-width: 13rem; }
.question .faint { font-weight: 400; }
.error { color: var(--bad); font-weight: 400; font-size: .84rem; overflow-wrap: anywhere; }
.status { font-weight: 600; color: var(--good); }
tr.failed .status { color: var(--bad); }
.model { min-width: 8rem; }
.nowrap { white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content minmax(5rem, max-content); gap: 0 .7rem; margin: 0; }
dl.key { grid-template-columns: minmax(6rem, max-content) max-content; }
dt { color: var(--faint); }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
dl.key dd { font-weight: 600; text-align: right; }
details dl { margin-top: .3rem; max-width: 22rem; }
summary { color: var(--faint); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; }
figure img { width: 100%; aspect-ratio: 16 / 10; object-fit: contain; background: var(--card); display: block;
  border: 1px solid var(--line); border-radius: 4px; padding: .3rem; }
figcaption { font-size: .84rem; line-height: 1.4; margin-top: .3rem; overflow-wrap: anywhere; }
@media (max-width: 62rem) {
  #order { display: block; }
  .runs, .runs tbody { display: block; }
  .runs thead { display: none; }
  .runs tr { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem 1rem; padding: .9rem 0; }
  .runs td { padding: 0; min-width: 0; order: 2; }
  .runs td.question { order: 0; }
  .runs td.when { order: 1; }
  .runs td:empty { display: none; }
  .runs td:is(.question, .wide) { grid-column: 1 / -1; }
  .runs td[data-label]:not(.question)::before { content: attr(data-label); display: block; color: var(--faint);
    font-size: .78rem; }
  dl { grid-template-columns: minmax(0, max-content) minmax(0, 1fr); }
  dl.key { grid-template-columns: minmax(0, 1fr) max-content; max-width: 24rem; } }
@media print { #controls { display: none !important; } }
</style>
</head>
<body>
<main>
<header>
<h1>specbeam: runs</h1>
<div class="faint">{{ runs | length }} {{ "run" if runs | length == 1 else "runs" }}
{%- if failed %}, {{ failed }} failed{% endif %}. A question leads to its page. <span id="shown"></span></div>
<div id="controls" hidden>
<input id="text" type="search" placeholder="Filter: a word, or num_beams=4" aria-label="Filter runs">
<select id="state" aria-label="Status"><option value="">all</option><option>ok</option><option>failed</option></select>
<select id="order" aria-label="Order"></select>
</div>
</header>
{% if runs %}
<table class="runs">
<thead><tr><th data-sort>Question</th><th data-sort>Status</th><th>Key figures</th><th>Parameters</th>
<th data-sort>Model</th><th data-sort>Device</th><th data-sort>Commit</th><th data-sort>Duration</th>
<th data-sort>Finished</th></tr></thead>
<tbody>
{% for run in runs %}
<tr data-run="{{ run.name }}" data-status="{{ run.status }}"{% if run.failed %} class="failed"{% endif %}>
<td class="question" data-label="Question" data-value="{{ run.title }} {{ run.name }}">
{% if run.link %}<a href="{{ run.link }}">{{ run.title }}</a>{% else %}{{ run.title }}{% endif %}
{% if run.name != run.title %}<div class="faint">{{ run.name }}</div>{% endif %}
{% if run.failed %}<div class="error">{{ run.failed }}</div>{% endif %}
{% if run.remark %}<div class="error">{{ run.remark }}</div>{% endif %}
</td>
<td class="when" data-label="Status"><span class="status">{{ run.status }}</span></td>
<td class="wide" data-label="Key figures">{% if run.key %}<dl class="key">{% for name, value in run.key %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>{% endif %}</td>
<td class="wide" data-label="Parameters">{% if run.chosen %}<dl>{% for name, value in run.chosen %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl>{% endif %}
{%- if run.parameters %}<details><summary>all {{ run.parameters | length }}</summary><dl>
{%- for name, value in run.parameters %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}</dl></details>{% endif %}</td>
<td class="model" data-label="Model">{{ run.model }}</td>
<td data-label="Device">{{ run.device }}</td>
<td class="nowrap" data-label="Commit">{{ run.commit }}
{%- if run.dirty %}<div class="faint">+ changes</div>{% endif %}</td>
<td class="nowrap" data-label="Duration" data-value="{{ run.seconds }}">{{ run.duration }}</td>
<td class="when" data-label="Finished" data-value="{{ run.finished }}">
{%- for part in run.finished.split(" ") %}<span class="nowrap">{{ part }}</span> {% endfor %}</td>
</tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>No runs yet: <code>make run-notebooks</code> makes them.</p>
{% endif %}
{% if figures %}
<h2>The figure of each run</h2>
<div class="figures">
{% for run in figures %}
<figure data-run="{{ run.name }}"><a href="{{ run.link }}"><img src="{{ run.picture }}" loading="lazy"
  alt="First figure of {{ run.title }}"></a><figcaption>{{ run.title }}
{%- if run.name != run.title %} <span class="faint">{{ run.name }}</span>{% endif %}</figcaption></figure>
{% endfor %}
</div>
{% if left_out %}<p class="faint">{{ left_out }} more are on the pages of their runs, to keep this one small.</p>
{% endif %}
{% endif %}
</main>
<script>"""
    + SCRIPT
    + """</script>
</body>
</html>
"""
)
