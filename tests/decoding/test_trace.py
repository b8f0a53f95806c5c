"""A trace comes back from JSON as it was, and what is no trace is refused in words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_factory import TEXTS, random_trace, two_beams

from specbeam.decoding.trace import Trace
from specbeam.pictures.token_text import texts_of


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 8))
def test_any_trace_comes_back_from_json(seed, beams, steps):
    trace = random_trace(seed, beams, steps)
    document = json.loads(json.dumps(trace.to_json()))
    assert Trace.from_json(document) == trace
    assert texts_of(document) is None


@given(st.dictionaries(st.integers(0, 50), st.text(), max_size=5))
def test_texts_come_back_with_it(texts):
    document = json.loads(json.dumps(two_beams().to_json(texts), ensure_ascii=False).encode())
    assert texts_of(document) == texts


def test_bytes_that_are_no_text_are_saved_as_numbers_and_come_back():
    piece = b"\xf0\x9f".decode("utf-8", "surrogateescape")
    document = two_beams().to_json({1: piece, 2: "a\ud83d"})
    assert document["texts"] == {"1": [0xF0, 0x9F], "2": [ord("a"), 0xED, 0xA0, 0xBD]}
    texts = texts_of(document)
    assert texts and texts[1] == piece and texts[2].startswith("a")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("nodes"), "KeyError"),
        (lambda d: d["nodes"]["token"].pop(), "not a saved trace"),
        (lambda d: d["nodes"].update(parent=[-1] + [9] * 10), "does not come before it"),
        (lambda d: d["nodes"].update(depth=[0] * 11), "not one below its parent's"),
        (lambda d: d["steps"].append([99]), "none has the number 99"),
        (lambda d: d["rounds"].append({"asked": []}), "not a saved trace"),
        (lambda d: d["rounds"].append(7), "not a saved trace"),
    ],
)
def test_what_is_no_trace_is_refused_with_a_remedy(change, said):
    document = json.loads(json.dumps(two_beams().to_json(TEXTS)))
    change(document)
    with pytest.raises(ValueError, match=said) as refused:
        Trace.from_json(document)
    assert "Trace.to_json()" in str(refused.value)


def test_texts_that_are_none_are_refused():
    with pytest.raises(ValueError, match="texts of this trace cannot be read"):
        texts_of({"texts": {"a": "b"}})
    with pytest.raises(ValueError, match="texts of this trace cannot be read"):
        texts_of({"texts": [1]})
