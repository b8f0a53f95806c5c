"""The chart of engines, on times written by hand."""

import pytest

from specbeam import pictures


def test_the_title_says_how_far_the_fastest_engine_is_from_the_limit():
    figure = pictures.engine_passes([1, 8], {"onnx": [0.03, 0.06], "torch": [0.1, 0.1]}, [0.02, 0.05])
    assert figure.axes[0].get_title() == "onnx takes 1.20 to 1.50 × what the machine must pay"
    legend = figure.axes[0].get_legend()
    labels = [text.get_text() for text in legend.get_texts()] if legend else []
    assert labels == ["onnx", "torch", "least possible"]


def test_times_that_do_not_belong_to_the_sizes_are_refused():
    with pytest.raises(ValueError, match="one time for each"):
        pictures.engine_passes([1, 8], {"onnx": [0.1]}, [0.1, 0.1])
