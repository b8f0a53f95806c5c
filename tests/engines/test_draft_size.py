"""AdaptiveDraftSize: as many drafted nodes as the passes of late say are worth what a pass costs here."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specbeam.core.expand import Ranking
from specbeam.core.tree import TokenTree
from specbeam.engines.draft_size import EXPLORE, MOST, AdaptiveDraftSize, LatencyCurve

FLAT = LatencyCurve((1, 64), (1.0, 1.001))
STEEP = LatencyCurve((1, 64), (1.0, 190.0))


class Known(TokenTree):
    """A tree in which some nodes are scored."""

    def __init__(self, scored: set[int]):
        super().__init__([0])
        self.scored = scored

    def logits(self, node: int) -> torch.Tensor | None:
        return torch.zeros(1) if node in self.scored else None


def adaptive(latency: LatencyCurve, num_beams: int) -> AdaptiveDraftSize:
    size = AdaptiveDraftSize(latency)
    size.start(num_beams)
    return size


def step(size: AdaptiveDraftSize, nodes: list[int], scored: list[bool]) -> None:
    """The search takes a step from these nodes, some of which are scored."""
    size.stepped([Known({node for node, known in zip(nodes, scored, strict=True) if known})], [nodes])


def passed(size: AdaptiveDraftSize, chain: int, foreseen: int, passes: int = 40) -> list[int]:
    """Choices over passes whose draft ranks a chain of nodes, of which the search asks for the first `foreseen`."""
    chosen = []
    for number in range(passes):
        chosen.append(size.choose(1))
        if not chosen[-1]:
            continue
        nodes = [1000 * number + i for i in range(1, chain + 1)]
        size.cut([Ranking(nodes, list(range(1, chain + 1)))], 0, [0], 0.0)
        for node in nodes[: min(foreseen, chosen[-1])]:
            step(size, [node], [True])
        failing = nodes[chosen[-1]] if chosen[-1] < foreseen else -1
        step(size, [failing], [False])
        size.learn()
    return chosen


def settled(chosen: list[int]) -> list[int]:
    """The later choices, without those that explore."""
    return [count for number, count in enumerate(chosen, 1) if number > 20 and number % EXPLORE]


def test_where_more_nodes_cost_nothing_all_that_are_asked_for_are_drafted() -> None:
    assert min(settled(passed(adaptive(FLAT, 1), chain=20, foreseen=12))) >= 12


def test_where_a_node_costs_three_passes_none_is_drafted() -> None:
    assert set(settled(passed(adaptive(STEEP, 1), chain=20, foreseen=2))) == {0}


def test_a_short_decode_for_which_drafting_does_not_pay_never_asks_the_draft() -> None:
    assert set(passed(adaptive(STEEP, 1), chain=20, foreseen=2, passes=64)) == {0}


def test_a_draft_that_is_never_right_gets_next_to_no_nodes_but_now_and_then_another_chance() -> None:
    chosen = passed(adaptive(LatencyCurve((1, 64), (1.0, 2.9)), 1), chain=MOST, foreseen=0, passes=900)
    assert max(settled(chosen)[-20:]) <= 2
    looks = [number for number, count in enumerate(chosen, 1) if number > 20 and count > 0]
    assert len(looks) >= 3 and looks[2] - looks[1] > looks[1] - looks[0]


def test_what_a_level_costs_is_learned_between_decodes_and_not_within_one() -> None:
    known: dict[int, float] = {}
    for busy in (1.0, 3.0):  # a machine that is slow at everything changes nothing
        size = AdaptiveDraftSize(FLAT, level_s=known)
        size.start(1)
        for _ in range(9):
            before = size.choose(1)
            size.cut([Ranking([1, 2], [1, 2])], 2, [0], 0.5 * busy)
            size.passed(3, busy * float(FLAT(3)))
            assert before > 0
        size.finish()
        assert known[1] == pytest.approx(0.25, rel=0.01)


def test_it_learns_from_nodes_that_were_ranked_but_not_verified() -> None:
    size = adaptive(FLAT, 1)
    before = size.steps()
    for _ in range(200):  # the second step needed the fifth of the ranking
        size.cut([Ranking([1, 2, 3, 4, 5, 6], [1] * 6)], 0, [0], 0.0)
        step(size, [5], [False])
        size.learn()
    steps = size.steps()
    assert steps[4] < 1.4 < before[4] and steps[6] > 3 > before[6]  # with five nodes the pass would have gone on
    assert steps[7] < 3  # nothing is known of more nodes than were ranked


def test_a_step_that_needs_a_node_nobody_ranked_pays_for_nothing_further() -> None:
    size = adaptive(FLAT, 2)
    size.cut([Ranking([1, 2], [1, 1])], 0, [0], 0.0)
    step(size, [1, 9], [True, False])
    step(size, [1, 2], [True, True])
    assert not size._steps.any() and not size._open.any()
    assert size._lacks.tolist() == [2.0] + [1.0] * MOST


def test_a_costly_draft_is_asked_for_less() -> None:
    def last_choice(level_s: float) -> int:
        size = AdaptiveDraftSize(LatencyCurve((1, 64), (1.0, 2.9)), level_s={1: level_s})
        size.start(1)
        for _ in range(20):
            size.cut([Ranking([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8])], 0, [0], 0.0)
            for node in range(1, 7):
                step(size, [node], [True])
            step(size, [99], [False])
            size.learn()
        return size.choose(1)

    assert last_choice(level_s=0.0) == 6
    assert last_choice(level_s=10.0) == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120), st.floats(0, 1)), max_size=20),
    st.integers(1, 16),
    st.floats(0.0, 4.0),
)
def test_the_choice_is_always_a_number_of_nodes_that_it_can_judge(
    passes: list[tuple[int, int, float]], num_beams: int, slope: float
) -> None:
    size = adaptive(LatencyCurve((1, 64), (0.01, 0.01 + slope)), num_beams)
    for ranked, asked, draft_s in passes:
        assert 0 <= size.choose(num_beams) <= MOST
        size.cut([Ranking(list(range(1, ranked + 1)), [1] * ranked)], 0, [0], draft_s)
        step(size, [asked], [asked == 0])
        size.learn()


def test_a_first_decode_with_beams_asks_no_draft_where_its_levels_would_be_dear() -> None:
    chosen = []
    for ten_nodes in (1.02, 1.35):  # of a pass over one: a GPU, and two cores of a CPU
        size = AdaptiveDraftSize(LatencyCurve((1, 10, 24), (1.0, ten_nodes, 1 + 3 * (ten_nodes - 1))))
        size.start(4)
        chosen.append(size.choose(1))
    assert chosen[0] > 8 and chosen[1] == 0
