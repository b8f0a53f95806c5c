"""What notebooks hold shows on the page of their run, and nothing of it reaches the rest of the page."""

import html as html_module
import json
import re

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html as parser
from run_pages import BREAKING, ELSEWHERE, output, page, stream

from specbeam.experiments.records import RunRecord
from specbeam.reports.contained import contained
from specbeam.reports.facts import read_runs
from specbeam.reports.formulas import mathml
from specbeam.reports.scoped_css import scoped, without_loads
from specbeam.reports.terminal_text import shown
from specbeam.reports.write import index_html, page_html

v4 = nbformat.v4


def tree(html):
    return parser.document_fromstring(html.encode(), parser=parser.HTMLParser(encoding="utf-8"))


def texts_of(html):
    """The texts of the outputs of the first cell with outputs. HTML5 drops a line feed after <pre>, lxml does not."""
    area = tree(html).xpath("//div[contains(@class, 'jp-OutputArea jp-Cell-outputArea')]")[0]
    found = area.xpath(".//div[contains(@class, 'jp-OutputArea-output')]/*")
    return [each.text_content().removeprefix("\n" if each.tag == "pre" else "") for each in found]


def assert_whole(html):
    main = tree(html).xpath("/html/body/main")
    assert len(main) == 1
    after = main[0].xpath("./div[contains(@class, 'jp-CodeCell')][last()]//pre[normalize-space() = 'AFTER']")
    assert len(after) == 1 and not after[0].xpath("ancestor::*[contains(@style, 'none') or @hidden]")
    assert len(main[0].xpath("./section[@id = 'provenance']")) == 1
    loading = [*tree(html).xpath("//@*[name() != 'to' and name() != 'title']"), *tree(html).xpath("//style/text()")]
    assert not [value for value in loading if ELSEWHERE in value]
    assert not tree(html).xpath("//script | //iframe | //form | //base | //object | //embed | //*[@onerror]")
    assert not tree(html).xpath("//body//meta | //body//link | //main//template | //*[@*[name() = 'srcset']]")


@pytest.mark.parametrize("markup", BREAKING.values(), ids=BREAKING)
def test_a_page_stays_whole_whatever_an_output_or_a_text_holds(tmp_path, markup):
    assert_whole(
        page(tmp_path, output("text/html", markup), output("text/markdown", markup), texts=[f"text\n\n{markup}"])
    )


@given(
    st.lists(st.sampled_from([*BREAKING.values(), "</div>", "<svg>", "<math>", "<p>", "</p>", "text", "<td>", "<a>"]))
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_pieces_of_markup_in_any_order_end_with_their_part(pieces):
    part = contained("".join(pieces), 1)
    after = parser.fragments_fromstring(f"{part}<p>AFTER</p>")[-1]
    assert (after.tag, after.text) == ("p", "AFTER")


def test_what_an_outputs_style_says_holds_for_that_output():
    assert scoped("b{color:red}:root{top:0}", ".x") == "@scope (.x){b{color:red}:scope{top:0}}"
    assert scoped("@media print{b{color:red}}", ".x") == "@scope (.x){@media print{b{color:red}}}"
    assert scoped("@font-face{src:url(data:x)}@import 'y';@page{margin:0}", ".x") == ""
    assert scoped("b{color:red}}body{x:(}p", ".x") == "@scope (.x){b{color:red}}"
    assert without_loads("image-set(var(--u) 1x)") == "image-set(var() 1x)"
    assert without_loads("url(https://e) url(data:x) url(#a)") == 'url("data:,") url(data:x) url(#a)'


def test_a_styles_medium_and_the_first_empty_line_of_preformatted_text_stay():
    assert '<style media="print">@scope' in contained("<style media=print>b{color:red}</style>", 1)
    assert "<pre>\n\nx</pre>" in contained("<pre>\n\nx</pre>", 1) and "<pre>x</pre>" in contained("<pre>\nx</pre>", 1)


def test_two_outputs_with_the_same_selectors_keep_their_own_looks(tmp_path):
    outputs = [output("text/html", f"<style>b{{color:{name}}}</style><b>{name}</b>") for name in ("red", "blue")]
    parts = tree(page(tmp_path, *outputs)).xpath("//div[@class = 'part'][style]")
    scopes = [part.get("data-part") for part in parts]
    assert len({*scopes}) == 2
    rules = [
        f'@scope ([data-part="{scope}"]){{b{{color:{name}}}}}'
        for scope, name in zip(scopes, ("red", "blue"), strict=True)
    ]
    assert [part.find("style").text for part in parts] == rules


def test_pictures_tables_and_formulas_of_an_output_are_as_they_were(tmp_path):
    markup = '<table class="t" style="color: red"><tr><td colspan="2">x</td></tr></table>'
    markup += (
        '<svg viewBox="0 0 1 1"><linearGradient id="g"></linearGradient><path d="M0 0" fill="url(#g)"></path></svg>'
    )
    html = page(tmp_path, output("text/html", markup))
    assert '<td colspan="2">x</td>' in html and 'viewBox="0 0 1 1"' in html and 'fill="url(#g)"' in html
    assert "<linearGradient" in html and 'style="color: red"' in html


def test_what_needs_a_script_gives_way_to_the_plain_text(tmp_path):
    chart = output("text/html", "<div id='c'></div><script>draw()</script>", "a chart")
    vega = output("application/vnd.vegalite.v5+json", {"mark": "bar"}, "alt.Chart(...)")
    program = output("application/javascript", "document.body.remove()", "a program")
    shown_texts = texts_of(page(tmp_path, chart, vega, program, output("text/html", "<b>after them</b>")))
    assert shown_texts == ["a chart", "alt.Chart(...)", "a program", "after them"]


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("".join(f"\r{n:3}%|{'#' * n}" for n in range(0, 101, 3)) + "\n", f" 99%|{'#' * 99}\n"),
        ("abc\rX", "Xbc"),
        ("abc\r\n", "abc\n"),
        ("abc\b\bX", "aX"),
        ("long line\r\x1b[Kshort", "short"),
        ("\x1b[31mred\x1b[0m and\rR", "Red\x1b[0m and"),
        ("a\n\b\bb", "a\nb"),
        ("\x1b]0;title\x07x\x1b[2Ay", "xy"),
    ],
)
def test_carriage_returns_and_backspaces_have_taken_effect(written, seen):
    assert shown(written).replace("\x1b[31m", "") == seen


def test_a_progress_bar_in_pieces_is_one_line_as_in_the_notebook(tmp_path):
    pieces = [stream(f"\r{n}%|{'█' * n}|", "stderr") for n in range(0, 33)]
    assert texts_of(page(tmp_path, *pieces)) == [f"32%|{'█' * 32}|"]


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("a\rb", "a\rb"),
        ("a\r\nb", "a\r\nb"),
        ("\n\nfirst", "\n\nfirst"),
        ("<&>\"'", "<&>\"'"),
        ("a\x01\x02\x0b\x1f\x7f", "a\x01\x02\x0b\x1f\x7f"),
        ("nul \0", "nul \u2400"),
        ("half \ud800", "half \ufffd"),
    ],
)
def test_any_text_comes_back_from_the_page_and_the_index(tmp_path, text, held):
    html = page(
        tmp_path,
        v4.new_output("display_data", data={"text/plain": text}),
        parameters={"text": text},
        error=text,
        status="failed",
    )
    written = re.findall(r'data-mime-type="text/plain">\n<pre>\n(.*?)</pre>', html, re.DOTALL)[0]
    assert html_module.unescape(written) == held and "\r" not in html
    for made in (html, index_html(read_runs(tmp_path))):
        assert "\r" not in made and "\0" not in made and held in html_module.unescape(made) and made.encode()


def test_texts_with_formulas_show_the_words_as_words_and_the_formulas_as_mathml(tmp_path):
    formula = output("text/latex", "The loss is $\\displaystyle x^2$ at most.")
    table = output("text/latex", "\\begin{tabular}{lr} name & value \\end{tabular}", "name  value")
    html = page(tmp_path, formula, table)
    first, second = tree(html).xpath("//div[@class = 'part'][not(h1)]")
    assert first.text == "The loss is " and first.find("math").tail == " at most."
    assert "name & value" in second.text_content() and second.find(".//math") is None


@pytest.mark.parametrize("kind", ["image/gif", "image/webp", "image/bmp"])
def test_every_raster_picture_is_shown_in_its_size(tmp_path, kind):
    html = page(tmp_path, v4.new_output("display_data", data={kind: "R0lGODlhAQ=="}, metadata={kind: {"width": 7}}))
    (picture,) = tree(html).xpath("//main//img")
    assert (picture.get("src"), picture.get("width")) == (f"data:{kind};base64,R0lGODlhAQ==", "7")


def test_types_without_a_look_of_their_own_are_shown_as_text_or_named(tmp_path):
    data = output("application/json", {"a": [1, "<b>"]})
    unknown = v4.new_output("display_data", data={"application/x-unknown": "1"})
    assert [json.loads(texts_of(page(tmp_path, data))[0]), *texts_of(page(tmp_path, unknown))][0] == {"a": [1, "<b>"]}
    assert "application/x-unknown" in page(tmp_path, unknown)


def test_attachments_are_shown_and_missing_ones_named(tmp_path):
    text = v4.new_markdown_cell("![a](attachment:a.png) ![b](attachment:b.png) <img src='attachment:a.png'>")
    text["attachments"] = {"a.png": {"image/png": "aWk="}}
    nbformat.write(v4.new_notebook(cells=[text]), tmp_path / "a.ipynb")
    RunRecord("a").save(tmp_path / "a.json")
    sources = [each.get("src") for each in tree(page_html(read_runs(tmp_path)[0])).xpath("//main//img")]
    assert (sources[0], sources[2]) == ("data:image/png;base64,aWk=",) * 2 and sources[1].startswith(
        "data:image/svg+xml"
    )


def test_raw_cells_are_shown_as_text(tmp_path):
    nbformat.write(v4.new_notebook(cells=[v4.new_raw_cell("</main><b>raw</b>")]), tmp_path / "a.ipynb")
    RunRecord("a").save(tmp_path / "a.json")
    assert "&lt;/main&gt;&lt;b&gt;raw&lt;/b&gt;" in page_html(read_runs(tmp_path)[0])


@pytest.mark.parametrize("name", ["align", "align*", "aligned", "split", "eqnarray", "alignat"])
def test_aligned_formulas_are_tables_without_numbers(name):
    columns = "{2}" if name == "alignat" else ""
    made = mathml(rf"\begin{{{name}}}{columns} a &= b \label{{x}} \\ c &= d \end{{{name}}}", "block")
    assert made.count("<mtr>") == 2 and "(1)" not in made and "label" not in made and "&</" not in made


def test_equations_are_their_formulas_and_gathered_ones_stand_below_each_other():
    assert mathml(r"\begin{equation} a \end{equation}") == mathml("a")
    assert mathml(r"\begin{gather} a \\ b \end{gather}").count("<mtr>") == 2


def test_a_sum_in_the_style_of_displays_has_its_limits_above_and_below_within_a_line():
    made = mathml(r"\displaystyle \sum_{i}^{n} x")
    assert "<munderover>" in made and 'display="inline"' in made and 'display="block"' not in made


@pytest.mark.parametrize(
    "address", ["//[x", "http://[x", "a" * 5000 + ".png", "a%00.png", "../../etc/passwd", "\\\\host\\x.png"]
)
def test_an_address_that_is_none_leaves_a_note_of_it(tmp_path, address, recwarn):
    part = contained(f"<img src='{address}'>", 1, tmp_path)
    assert "<img" in part and 'src="' + address[:4] not in part and not recwarn.list


def test_pictures_beside_the_notebook_are_embedded_and_those_above_it_are_not(tmp_path):
    for path in (tmp_path / "secret.png", tmp_path / "notebooks" / "a b.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"ii")
    part = contained("<img src='a%20b.png'><img src='../secret.png'><img src='gone.png'>", 1, tmp_path / "notebooks")
    assert part.count("data:image/png;base64,aWk=") == 1 and part.count("data:image/svg+xml") == 2


def test_backgrounds_underlines_and_inverse_text_of_a_terminal_have_a_look(tmp_path):
    html = page(tmp_path, stream("\x1b[41mred\x1b[0m \x1b[4munder\x1b[0m \x1b[7minverse\x1b[0m"))
    used = {name for each in tree(html).xpath("//pre//span/@class") for name in each.split() if "ansi" in name}
    assert used == {"ansi-red-bg", "ansi-underline", "ansi-default-inverse-fg", "ansi-default-inverse-bg"}
    assert all(f".{name}" in html for name in used)


@pytest.mark.parametrize(
    "css", ["@media print{" * 3000, "p{a:" + "(" * 3000 + "url(https://elsewhere.example/)", "[" * 3000]
)
def test_css_nested_without_end_is_no_style(css):
    assert scoped(css, ".x") == "" and without_loads(f"a:{'(' * 3000}url({ELSEWHERE})") == ""
    assert contained(f"<style>{css}</style><p style='{css}'>x</p>", 1).endswith("x</p></div>")
