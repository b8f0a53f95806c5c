"""Files of prompts as people have them: each is read with the right values, or refused with its line and a remedy."""

import codecs
import csv
import gzip
import io
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbeam.evaluation import data
from specbeam.evaluation.data_files import Example, read_prompts
from specbeam.evaluation.table_rows import DELIMITERS

LONG = "word " * 40_000  # 200 kB, more than a cell may have by default


@pytest.fixture
def read(tmp_path):
    """Write a file and read its prompts: (prompt, reference, number of the line) of each."""

    def write_and_read(name, content, **options):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        examples = read_prompts(file, **options)
        return [(one.prompt, one.reference, int(one.source.removeprefix("prompts/"))) for one in examples]

    return write_and_read


@pytest.mark.parametrize(
    "name, content, rows",
    [
        ("a.csv", "prompt;reference\nHello, you;World\n", [("Hello, you", "World", 2)]),
        ("a.csv", "prompt\treference\nHello; you\tWorld\n", [("Hello; you", "World", 2)]),
        ("a.csv", "id|prompt\n7|Hello, you\n", [("Hello, you", None, 2)]),
        ("a.csv", '"prompt";"reference"\n"He said ""hi"";";x\n', [('He said "hi";', "x", 2)]),
        ("a.csv", "prompt\nHello; you\n", [("Hello; you", None, 2)]),
        ("a.tsv", "prompt\nHello, you\n", [("Hello, you", None, 2)]),
        ("a.TSV", "prompt\treference\nHello, you\tso; so\n", [("Hello, you", "so; so", 2)]),
        ("a.csv", "sep=,\nprompt,reference\nHello,World\n", [("Hello", "World", 3)]),
        ("a.csv", '"sep=;"\r\nprompt;reference\r\n"a\r\nb";c\r\nd;e\r\n', [("a\r\nb", "c", 3), ("d", "e", 5)]),
        ("a.csv", "SEP=\t\nprompt\treference\nHello\tWorld\n", [("Hello", "World", 3)]),
        ("a.csv", ",prompt,reference\n0,Hello,World\n1,Bye,\n", [("Hello", "World", 2), ("Bye", None, 3)]),
        ("a.csv", "Prompt, REFERENCE\nHello,World\n", [("Hello", "World", 2)]),
        ("a.csv", "prompt , reference\n\n  Hello  ,  \n ,\nBye,x\n", [("  Hello  ", None, 3), ("Bye", "x", 5)]),
        ("a.csv", "prompt,reference\rHello,World\rBye,Now\r", [("Hello", "World", 2), ("Bye", "Now", 3)]),
        ("a.csv", 'prompt,reference\r"a\nb",c\rd,e', [("a\nb", "c", 2), ("d", "e", 3)]),
        ("a.csv", 'prompt,reference\n"a\rb",c\n', [("a\rb", "c", 2)]),
        ("a.csv", "prompt,reference\r\r\nHello,World\r\r\n", [("Hello", "World", 2)]),
        ("a.csv", f'prompt,reference\n"{LONG}",x\n', [(LONG, "x", 2)]),
        ("a.jsonl", json.dumps({"prompt": LONG}), [(LONG, None, 1)]),
        ("a.csv", "prompt\na\u2028b\x0cc\x85d\n", [("a\u2028b\x0cc\x85d", None, 2)]),
        ("a.jsonl", '{"prompt": "a\u2028b\x85c"}\n{"prompt": "c"}\n', [("a\u2028b\x85c", None, 1), ("c", None, 2)]),
        ("a.jsonl", '{"prompt": "a\\u000cb\\u0000"}', [("a\x0cb\x00", None, 1)]),
        ("a.jsonl", '{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\n', [("a", None, 1), ("b", None, 3)]),
        ("a.jsonl", '{"prompt": "a"}\r{"prompt": "b"}', [("a", None, 1), ("b", None, 2)]),
        ("a.jsonl", '{"prompt":\r"a"}\n{"prompt": "b"}', [("a", None, 1), ("b", None, 2)]),
        ("a.jsonl", '{"prompt": "\\ud83d\\ude00"}', [("😀", None, 1)]),
        ("a.jsonl", '{"prompt": "x", "reference": NaN}', [("x", None, 1)]),
        ("a.jsonl", '{"prompt": "x", "reference": null}', [("x", None, 1)]),
        ("a.jsonl", '{"prompt": "x", "reference": "nan"}', [("x", "nan", 1)]),
        ("a.jsonl", '{"Prompt": "x", " Reference": "y", "id": [1, {}]}', [("x", "y", 1)]),
        ("a.jsonl", f'{{"prompt": "x", "id": {"9" * 5000}}}', [("x", None, 1)]),
        ("a.jsonl", '[\n{"prompt": "a"},\n\n {"prompt": "b"}\n]\n', [("a", None, 2), ("b", None, 4)]),
        ("a.json", '[{"prompt": "a"}, {"prompt": "b", "reference": "c"}]', [("a", None, 1), ("b", "c", 2)]),
        (
            "a.json",
            '[{"prompt": "a"}, {"prompt": "b"},\n{"prompt": "c"}]',
            [("a", None, 1), ("b", None, 2), ("c", None, 3)],
        ),
        ("a.csv", 'prompt,reference\n" ""a"" ",b\n', [(' "a" ', "b", 2)]),
        ("a.json", '{"prompt": "a"}\n{"prompt": "b"}', [("a", None, 1), ("b", None, 2)]),
        ("a.json", '\n{\n "prompt": "a",\n "reference": "b"\n}\n', [("a", "b", 2)]),
        ("a.ndjson", '{"prompt": "a"}', [("a", None, 1)]),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "zipped"}', mtime=0), [("zipped", None, 1)]),
        ("a.CSV.GZ", gzip.compress(b"prompt\nzipped\n", mtime=0), [("zipped", None, 2)]),
    ],
)
def test_what_people_have_is_read(read, name, content, rows):
    assert read(name, content) == rows


@pytest.mark.parametrize(
    "encoding, mark",
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
    ],
)
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("name, text", [("a.csv", "prompt,reference\r\nGrüße 今日,ж\r\n"), ("a.json", None)])
def test_unicode_is_recognised_with_and_without_a_mark(read, encoding, mark, marked, name, text):
    text = text or '[{"prompt": "Grüße 今日", "reference": "ж"}]'
    ((prompt, reference, _),) = read(name, (mark if marked else b"") + text.encode(encoding))
    assert (prompt, reference) == ("Grüße 今日", "ж")


@pytest.mark.parametrize(
    "encoding, text",
    [
        ("latin-1", "café"),
        ("cp1252", "“Größe” – 5 €"),
        ("cp1252", "“é€”"),
        ("cp1251", "Привет, как дела"),
        ("cp932", "今日は天気がいい"),
    ],
)
def test_another_encoding_is_shown_and_not_guessed(read, encoding, text):
    content = f'prompt\n"{text}"\n'.encode(encoding)
    with pytest.raises(ValueError, match=r"a\.csv, line 2: byte 0x.. is not UTF-8 .*; save the file as UTF-8") as error:
        read("a.csv", content)
    known = {"latin-1": "cp1252"}.get(encoding, encoding)
    assert f"encoding={known!r} reads " in str(error.value) and text in str(error.value)
    assert "\n" not in str(error.value)
    assert read("a.csv", content, encoding=encoding) == [(text, None, 2)]


@pytest.mark.parametrize(
    "content, encoding, message",
    [
        (b"prompt\ncaf\xe9\n", "nope", "encoding='nope' is no encoding of texts that Python knows"),
        (b"prompt\ncaf\xe9\n", "hex", "encoding='hex' is no encoding of texts"),
        (b"prompt\ncaf\xe9\n", "ascii", "line 2: byte 0xe9 is not ASCII"),
        ("prompt\nx\n".encode("utf-16"), "cp1252", "begins with the byte order mark of UTF-16, so .*leave"),
        ("prompt\nx\n".encode("utf-16") + b"y", None, "line 3: byte 0x79 is not UTF-16"),
    ],
)
def test_an_encoding_that_cannot_be_is_refused(read, content, encoding, message):
    with pytest.raises(ValueError, match=message):
        read("a.csv", content, encoding=encoding)


def test_an_encoding_goes_through_load_and_needs_a_file(tmp_path):
    (tmp_path / "a.csv").write_bytes("prompt\ncafé\n".encode("cp1252"))
    found = data.load("prompts", path=tmp_path / "a.csv", encoding="cp1252")
    assert found == [Example("café", None, "prompts/2")]
    with pytest.raises(ValueError, match="encoding='cp1252' is that of a file; give path="):
        data.load("chat", encoding="cp1252")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "prompt,prompt\na,b\n", "line 1: the column 'prompt' occurs twice"),
        ("a.csv", "prompt,reference,Reference\na,b,\n", "line 1: the column 'reference' occurs twice"),
        ("a.csv", "\nprompt,reference;id\na,b;1\n", "line 2: the header holds 'reference;id', .* use one delimiter"),
        ("a.csv", "prompt;reference\na;b;c\n", "line 2: 3 cells where the header has 2; put .* semicolons .* quotes"),
        ("a.csv", "prompt\nHello,\n", "line 2: 2 cells where the header has 1"),
        ("a.csv", "prompt,reference\nx,nan\n", "line 2: the reference 'nan' may be a missing value or a text; leave"),
        ("a.csv", "prompt,reference\nx,NA\n", "line 2: the reference 'NA' may be a missing value"),
        ("a.csv", "prompt,reference\nx,y\nNone,\n", "line 3: the prompt 'None' may be a missing value"),
        ("a.csv", 'prompt, reference\na, "b"\n', "line 2: the reference ' \"b\"' has a space in front of its quotes"),
        ("a.csv", "prompt,reference\na,b\n\ufeffPrompt,reference\n", "line 3: the header is repeated here; remove"),
        ("a.csv", "prompt\nhel\0lo\n", "line 2: there is a NUL character"),
        ("a.csv", "prompt,reference\na\rb,c\n", "line 2: malformed CSV .a line break outside of quotes"),
        ("a.csv", 'prompt,reference\n"say \\"hi\\"",x\n', "line 2: malformed CSV .*double those within"),
        ("a.csv", 'prompt,reference\na,b\n"never, closed\nc,d\n', "line 3: malformed CSV"),
        (
            "a.csv",
            "sep=x\npromptxreference\n",
            "line 1: sep=x is no delimiter that is read; cells are divided by commas",
        ),
        ("a.csv", "text;reference\na;b\n", "line 2: there is no 'prompt', only 'text', 'reference'; rename"),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "line 1: the key 'prompt' occurs twice in one object; keep one"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": "b", "x": {"y": 1, "y": 2}}', "line 2: the key 'y' occurs twice"),
        ("a.jsonl", '{"prompt": "a", "Prompt": "b"}', "line 1: the keys 'prompt', 'Prompt' differ in case only"),
        ("a.jsonl", '{"prompt": 42}', "line 1: the prompt 42 is no text"),
        ("a.jsonl", '{"prompt": NaN}', "line 1: the prompt None is no text"),
        ("a.jsonl", '{"prompt": "a", "reference": Infinity}', "line 1: the reference inf is no text"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt": "hi \\ud83d there"}', "line 2: the prompt holds '.ud83d' as its char"),
        ("a.jsonl", '{"prompt": "a", "reference": "\\udc00"}', "line 1: the reference holds '.udc00'"),
        ("a.jsonl", '{"prompt": "a"},\n{"prompt": "b"}', "line 1: a comma follows the object; remove the commas"),
        ("a.jsonl", '{"prompt": "a"} {"prompt": "b"}', "line 1: malformed JSON .*write one object a line, column 16"),
        (
            "a.jsonl",
            '{"prompt": "a\tb"}',
            "line 1: malformed JSON .a control character within a text; write .* column 14",
        ),
        ("a.jsonl", '{"prompt": "a\0b"}', "line 1: malformed JSON .a control character"),
        ("a.jsonl", "{'prompt': 'a'}", "line 1: malformed JSON .*double quotes .*, column 2"),
        ("a.jsonl", '{"prompt": "a",}', "line 1: malformed JSON .*remove the comma"),
        ("a.jsonl", '{"prompt": "a"}\n\ufeff{"prompt": "b"}', "line 2: malformed JSON"),
        (
            "a.jsonl",
            '{"prompt": "a", "x": ' + "[" * 10**5 + "]" * 10**5 + "}",
            "line 1: .* nested too deeply; leave out",
        ),
        ("a.json", '[{"prompt": "a"},\n{"prompt": "b", "x": ' + "[" * 10**5, "line 2: .* nested too deeply"),
        ("a.json", '[\n{"prompt": "a"},\n]', "line 3: malformed JSON .the list ends after a comma; remove the comma"),
        ("a.json", '[{"prompt": "a"}\n{"prompt": "b"}]', "line 2: malformed JSON .a comma or the end of the list"),
        (
            "a.json",
            '[{"prompt": "a"}',
            "line 1: malformed JSON .a comma or the end of the list, ], is missing, column 17",
        ),
        ("a.json", '[{"prompt": "a"}]\n[{"prompt": "b"}]', "line 2: malformed JSON .there is more after the end"),
        ("a.json", '[{"prompt": "a"},\n{"prompt": }]', "line 2: malformed JSON .Expecting value, column 12"),
        ("a.json", '[{"prompt": "a"},\n"b"]', "line 2: 'b' is no JSON object"),
        ("a.json", '{"data": [{"prompt": "a"}]}', "line 1: there is no 'prompt', only 'data'"),
        ("a.json", "[]", "holds no prompts"),
        ("a.csv", "sep=;\n", "holds no prompts"),
        ("a.xlsx", b"PK\x03\x04", "is a workbook of Excel, which is not read; save the sheet as 'CSV UTF-8'"),
        ("a.csv", b"PK\x03\x04", "is a zip archive, as the workbooks of Excel are, .* save the sheet"),
        ("a.csv", b"\xd0\xcf\x11\xe0", "is a workbook of Excel"),
        ("a.parquet", b"PAR1", "is a Parquet file, which is not read; write it as JSON lines"),
        ("a.jsonl", b"PAR1", "is a Parquet file"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd", "is a packed file, which is not read; unpack it"),
        ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, .* git lfs pull"),
        ("a.csv.gz", b"prompt\nx\n", "is no gzip file; name it"),
        ("a.csv.gz", gzip.compress(b"prompt\nx\n", mtime=0)[:-9], "is a damaged gzip file"),
        ("a.txt.gz", gzip.compress(b"x", mtime=0), "prompts are read from .jsonl or .csv files"),
    ],
)
def test_what_can_be_read_in_two_ways_or_not_at_all_is_refused_in_one_line(read, name, content, message):
    with pytest.raises(ValueError, match=message) as error:
        read(name, content)
    said = str(error.value)
    assert f"/{name}" in said and "\n" not in said and len(said) < 500


def test_the_limit_of_cells_is_what_it_was_afterwards(read):
    before = csv.field_size_limit()
    read("a.csv", f'prompt\n"{LONG}"\n')
    with pytest.raises(ValueError):
        read("a.csv", f'prompt\n"{LONG}')
    assert csv.field_size_limit() == before


def test_integers_of_any_length_are_read_however_python_is_set(read):
    before = sys.get_int_max_str_digits() if hasattr(sys, "get_int_max_str_digits") else None
    if before is None:
        pytest.skip("this Python converts integers of any length")
    try:
        sys.set_int_max_str_digits(640)
        assert read("a.jsonl", f'{{"prompt": "x", "id": {"9" * 641}, "n": {"9" * 640}}}') == [("x", None, 1)]
    finally:
        sys.set_int_max_str_digits(before)


letters = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=12)
prompts = st.one_of(letters, st.text(st.sampled_from("a,;|\t\"'\n\r \u2028é今"), min_size=1, max_size=8))
certain = prompts.filter(str.strip)
rows = st.lists(st.tuples(certain, certain), min_size=1, max_size=4).filter(
    lambda found: not any(cell.strip() in ("nan", "NA", "null", "None") for row in found for cell in row)
)


@given(
    rows, st.sampled_from([*DELIMITERS]), st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["utf-8", "utf-16"])
)
@settings(deadline=None, max_examples=150)
def test_a_table_of_any_dialect_is_read_as_it_was_written(found, delimiter, line_end, encoding):
    written = io.StringIO(newline="")
    broken = any(letter in cell for row in found for cell in row for letter in "\r\n")
    quoting = csv.QUOTE_ALL if broken else csv.QUOTE_MINIMAL  # not every Python quotes line ends other than its own
    writer = csv.writer(written, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerows([("id", "prompt", "reference"), *((7, *row) for row in found)])
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.csv"
        file.write_bytes(written.getvalue().encode(encoding))
        examples = read_prompts(file)
    assert [(one.prompt, one.reference) for one in examples] == [(one, two.strip()) for one, two in found]


@given(
    rows,
    st.sampled_from(["lines", "list", "pretty list"]),
    st.booleans(),
    st.sampled_from(["utf-8", "utf-16", "utf-32"]),
)
@settings(deadline=None, max_examples=150)
def test_json_of_any_shape_is_read_as_it_was_written(found, shape, escaped, encoding):
    objects = [{"prompt": prompt, "reference": reference} for prompt, reference in found]
    if shape == "lines":
        text = "\n".join(json.dumps(one, ensure_ascii=escaped) for one in objects)
    else:
        text = json.dumps(objects, ensure_ascii=escaped, indent=1 if "pretty" in shape else None)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "a.jsonl"
        file.write_bytes(text.encode(encoding))
        examples = read_prompts(file)
    assert [(one.prompt, one.reference) for one in examples] == [(one, two.strip()) for one, two in found]


@given(st.binary(max_size=60), st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.tsv", "a.csv.gz"]))
@settings(deadline=None, max_examples=200)
def test_whatever_the_bytes_they_are_read_or_refused_in_one_line(content, name):
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        try:
            assert read_prompts(file)
        except ValueError as error:
            assert str(file) in str(error) and "\n" not in str(error)
