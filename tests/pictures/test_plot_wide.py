"""The chart of wide beams states what its numbers show."""

import numpy as np

from specbeam import pictures

ROWS = [
    {"num_beams": 50, "beam": 6.0, "hybrid": 5.0, "copies_slots": 4000, "tree_slots": 400},
    {"num_beams": 10, "beam": 3.0, "hybrid": 3.5, "copies_slots": 800, "tree_slots": 160},
]


def test_the_title_names_the_range_of_the_last_speed_and_the_cache_of_the_widest():
    figure = pictures.wide_beams(ROWS, ["beam", "hybrid"])
    assert figure.get_suptitle() == (
        "hybrid runs at 3.5 to 5.0 × the speed of transformers' beam search;\nwith 50 beams it holds 10% of the slots"
    )
    speed, cache = figure.axes
    assert [line.get_label() for line in speed.lines] == ["transformers", "beam", "hybrid"]
    assert [np.asarray(line.get_ydata()).tolist() for line in speed.lines[1:]] == [[3.0, 6.0], [3.5, 5.0]]
    assert [np.asarray(line.get_ydata()).tolist() for line in cache.lines] == [[800, 4000], [160, 400]]


def test_one_number_of_beams_is_no_range():
    assert "hybrid runs at 5.0 × the" in pictures.wide_beams(ROWS[:1], ["beam", "hybrid"]).get_suptitle()
