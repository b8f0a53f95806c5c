"""Places for the nodes of a token tree: a column for each step, and rows that branches share. No drawing in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """`rows[n]` is the row of node n, from 0 at the top; `first[n]` whether a branch begins with it."""

    rows: dict[int, int]
    first: dict[int, bool]
    height: int  # rows in use


def place(
    drawn: Collection[int],
    parents: Sequence[int],
    depths: Sequence[int],
    importance: Mapping[int, tuple[float, ...]],
) -> Layout:
    """Lay out the nodes that are drawn; parents have smaller numbers than their children, and node 0 is the root.

    The child of most `importance` goes on in its parent's row. Every other child begins a branch, in the nearest row
    below its parent that is free over all of the branch: rows are used again, so the height is that of the widest
    column and not the number of branches.
    """
    children: dict[int, list[int]] = {n: [] for n in drawn}
    for n in sorted(drawn):
        if n:
            children[parents[n]].append(n)
    for below in children.values():
        below.sort(key=lambda n: (*(-each for each in importance[n]), n))
    rows: dict[int, int] = {}
    first: dict[int, bool] = {}
    taken: list[set[int]] = []  # depths in use, a row each
    begins: list[tuple[int, int]] = [(0, 0)]  # first nodes of branches, and the rows they come from
    while begins:
        start, above = begins.pop()
        branch = [start]
        while children[branch[-1]]:
            branch.append(children[branch[-1]][0])
        # where it leaves its parent counts as well: nothing may stand between the two in its row
        columns = {depths[n] for n in branch}
        row = above + 1 if start else 0
        while row < len(taken) and columns & taken[row]:
            row += 1
        while len(taken) <= row:
            taken.append(set())
        taken[row] |= columns
        for n in branch:
            rows[n], first[n] = row, n == start
        later = [(child, row) for n in branch for child in children[n][1:]]
        # popped from the end: what matters most is placed first, and of that the deepest, so that few lines cross
        begins += sorted(later, key=lambda item: (importance[item[0]][:2], depths[item[0]], -item[0]))
    return Layout(rows, first, len(taken))
