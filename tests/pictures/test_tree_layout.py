"""Rows of a tree: branches stay whole, never share a place, and use rows again."""

import random

from hypothesis import given
from hypothesis import strategies as st

from specbeam.pictures.tree_layout import assign_rows


def laid_out(parents, importance=None):
    depths = [0]
    for parent in parents[1:]:
        depths.append(depths[parent] + 1)
    nodes = range(len(parents))
    return assign_rows(nodes, parents, depths, importance or {n: (0,) for n in nodes}), depths


def test_the_most_important_child_goes_on_in_its_parents_row():
    rows, _ = laid_out([-1, 0, 0, 2, 2], {0: (0,), 1: (1,), 2: (5,), 3: (1,), 4: (2,)})
    assert rows == {0: 0, 2: 0, 4: 0, 3: 1, 1: 1}


def test_rows_are_used_again_when_a_branch_has_ended():
    parents = [-1, *range(9)]  # a line of ten nodes, and a leaf at each but the last
    rows, _ = laid_out([*parents, *range(9)], {n: (n < 10,) for n in range(19)})
    assert {rows[n] for n in range(10)} == {0} and {rows[n] for n in range(10, 19)} == {1}


def test_the_root_alone():
    assert laid_out([-1])[0] == {0: 0}


@given(st.integers(0, 10**6), st.integers(1, 80))
def test_no_two_nodes_share_a_place_and_no_branch_changes_its_row(seed, size):
    draw = random.Random(seed)
    parents = [-1, *(draw.randrange(max(0, n - 9), n) for n in range(1, size))]
    rows, depths = laid_out(parents, {n: (draw.random() < 0.5, draw.random()) for n in range(size)})
    assert len({(rows[n], depths[n]) for n in range(size)}) == size
    for n in range(1, size):
        siblings = [child for child in range(size) if parents[child] == parents[n]]
        assert sum(rows[each] == rows[parents[n]] for each in siblings) == 1 and rows[n] >= rows[parents[n]]
    widest = max(depths.count(depth) for depth in depths)
    assert set(rows.values()) == set(range(max(rows.values()) + 1)) and len(set(rows.values())) >= widest
