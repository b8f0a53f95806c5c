"""YAML 1.2 as parameters are written in it, and values that no record can hold."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from specbeam.experiments.parameters import Parameter, parse_overrides
from specbeam.experiments.yaml_values import check_value, parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-7", -7),
        ("0x10", 16),
        ("0o17", 15),
        ("1e-3", 0.001),
        ("+.5", 0.5),
        ("1.", 1.0),
        (".inf", float("inf")),
        ("true", True),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("2024-1-1", "2024-1-1"),
        ("[0, -4, a b]", [0, -4, "a b"]),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_numbers_and_words_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse_yaml(text, "here")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "here is not YAML"),
        ("{1: 2}", "the key 1 is no text"),
        ("{a: 1, a: 2}", "the key 'a' comes twice"),
        ("a: 1\nb: 2\na: 3", "the key 'a' comes twice"),
        ("!!set {a}", "tag:yaml.org,2002:set"),
        ("!!binary aGk=", "tag:yaml.org,2002:binary"),
        ("!!python/object:os.system {}", "could not determine a constructor"),
        ("2024-13-01", "month must be in"),
        ("[" * 3000, "here is not YAML"),
        ('"a\x85b"', r"a bare \\u0085"),
        ('"a\u2028b"', r"a bare \\u2028"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text, "here")


@pytest.mark.parametrize(
    ("default", "given", "reason"),
    [
        (0.5, ".inf", "parameter p is inf, and must be finite"),
        (0.5, "1e999", "parameter p is inf"),
        (0.5, "'nan'", "parameter p is nan"),
        (None, ".nan", "parameter p is nan"),
        (None, "2024-01-01", "parameter p is a date"),
        (None, "&a [*a]", "parameter p is nested too deeply, or holds itself"),
        ({}, "{a: [1, .inf]}", r"parameter p\['a'\]\[1\] is inf"),
        ([1.0], "[2, .inf]", r"parameter p\[1\] is inf"),
        ([1.0], "[yes]", "holds 'yes' of type str"),
        ([1], "[1.5]", "holds 1.5 of type float"),
        (1, "1:30", "p = '1:30' is of type str"),
        (1, "1_000", "p = '1_000' is of type str"),
        (True, "yes", "p = 'yes' is of type str"),
        ("a", r'"\ud800"', "parameter p holds .* as its character 1"),
        ("a", "5", "p = 5 is of type int, .*write it in quotes"),
        ("a", "", "p = None is of type null, .*write it in quotes"),
    ],
)
def test_a_parameter_that_no_record_can_hold_or_of_another_type_is_refused_by_name(
    default: Any, given: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Parameter("p", default, "").check(parse_overrides([f"p={given}"])["p"])


@pytest.mark.parametrize("value", [{1: 2}, {"a"}, b"hi", date(2024, 1, 1), [object()], 1j])
def test_values_from_python_are_refused_alike(value: Any) -> None:
    with pytest.raises(ValueError, match="parameter p"):
        Parameter("p", None, "").check(value)


def test_whole_numbers_in_a_list_of_floats_are_floats() -> None:
    found = Parameter("margins", [0.0, -2.0], "").check(parse_yaml("[0, -4, 1e-3]", "here"))
    assert found == [0.0, -4.0, 0.001] and {type(one) for one in found} == {float}


KEYS = st.text(max_size=60)  # YAML takes 1,024 characters, escapes included
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_whatever_json_holds_comes_back_from_yaml_as_it_was(value: Any) -> None:
    check_value(value, "it")
    assert parse_yaml(json.dumps(value).replace("\x7f", r"\u007f"), "here") == value  # YAML holds no bare DEL
    assert parse_yaml(yaml.safe_dump(value, default_style='"'), "here") == value
