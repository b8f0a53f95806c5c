"""The chart of other libraries, on rows written by hand."""

from typing import Any

import pytest

from specbeam import pictures


def row(kind: str, num_beams: int, contender: str, seconds: float | None, **given: Any) -> dict[str, Any]:
    spread = None if seconds is None else {"median": seconds, "min": seconds * 0.9, "max": seconds * 1.1, "n": 3}
    base: dict[str, Any] = {"kind": kind, "num_beams": num_beams, "contender": contender, "prompts": 1}
    return base | {"seconds": spread, "equal": None if seconds is None else True, "reason": None} | given


ROWS = [
    *(row("chat", 1, "transformers", 4.0), row("chat", 1, "specbeam", 2.0), row("chat", 1, "X", 1.0)),
    *(row("chat", 8, "transformers", 9.0), row("chat", 8, "specbeam", 3.0), row("chat", 8, "X", 6.0)),
    *(
        row("article", 8, "transformers", 9.0),
        row("article", 8, "specbeam", 4.0),
        row("article", 8, "X", 1.0, equal=False),
    ),
    *(row("chat", 1, "Y", 3.0), row("chat", 8, "Y", None, reason="no beam search")),
]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_bars_are_seconds_and_the_title_counts_only_equal_tokens():
    figure = pictures.peers_by_case(ROWS)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert [axes.get_title() for axes in figure.axes] == ["greedy", "8 beams"]
    assert figure.axes[0].get_ylabel() == "time (s a prompt)"
    assert figure.get_suptitle() == (
        "Fastest with transformers' tokens: specbeam in 2, X in 1 of 3 cases;\n"
        "specbeam runs at 2.00 × the speed of the fastest other library (chat, 8 beams) down to 0.50 × (chat, greedy)"
    )
    assert sorted(texts(figure.axes[1])) == ["no beam search", "≠"]
    legend = figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["transformers", "specbeam", "X", "Y"]


def test_a_long_reason_is_not_written_into_the_chart():
    figure = pictures.peers_by_case(
        [*ROWS, row("article", 1, "Y", None, reason="the conversion failed: no such module")]
    )
    assert texts(figure.axes[0]) == ["no result"]


def test_the_title_without_equal_tokens_or_another_library():
    alone = [each for each in ROWS if each["contender"] in ("transformers", "specbeam")]
    title = pictures.peers_by_case(alone).get_suptitle()
    assert title == "Fastest with transformers' tokens: specbeam in 3 of 3 cases"
    assert pictures.peers_by_case([row("chat", 1, "X", 1.0, equal=False)]).get_suptitle().startswith("Nobody")


def test_rows_without_seconds_are_refused():
    with pytest.raises(ValueError, match="none of the contenders answered"):
        pictures.peers_by_case([row("chat", 1, "X", None)])
