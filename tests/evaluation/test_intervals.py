"""Bootstrap intervals: known answers, repeatable draws, and what pairing is for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specbeam.evaluation.intervals import Interval, bootstrap, bootstrap_ratio, mean

numbers = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = np.random.default_rng(1).normal(10, 2, size=400)
    interval = bootstrap(values, resamples=4000)
    error = values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    draws = np.random.default_rng(2).normal(0, 1, size=(300, 40))
    covered = [one.low <= 0 <= one.high for one in (bootstrap(row, level=0.8, resamples=200) for row in draws)]
    assert 0.72 < np.mean(covered) < 0.86


def test_two_values_can_be_enumerated():
    # resamples of (0, 1) have the means 0, 1/2, 1/2 and 1
    interval = bootstrap([0.0, 1.0], level=0.4, resamples=4000)
    assert (interval.low, interval.value, interval.high) == (0.5, 0.5, 0.5)
    assert bootstrap([0.0, 1.0], level=0.9, resamples=4000) == Interval(0.5, 0.0, 1.0, 0.9, 2)


@given(numbers, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=40)
def test_an_interval_contains_the_mean_and_repeats_with_its_seed(values, seed):
    interval = bootstrap(values, resamples=300, seed=seed)
    assert interval.low - 1e-9 <= interval.value <= interval.high + 1e-9  # sums in another order differ in a last bit
    assert interval == bootstrap(values, resamples=300, seed=seed)
    assert min(values) - 1e-9 <= interval.low and interval.high <= max(values) + 1e-9


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=20), st.floats(0.2, 5))
@settings(deadline=None, max_examples=30)
def test_the_ratio_of_methods_that_differ_by_a_factor_has_no_spread(seconds, factor):
    interval = bootstrap_ratio([factor * value for value in seconds], seconds, resamples=100)
    assert [interval.low, interval.value, interval.high] == pytest.approx([factor] * 3)


def test_pairs_are_narrower_than_methods_resampled_apart():
    randomness = np.random.default_rng(0)
    prompts = randomness.uniform(1, 50, size=60)  # prompts differ much, methods little
    slow, fast = prompts * 1.5, prompts * randomness.uniform(0.95, 1.05, size=60)
    paired = bootstrap_ratio(slow, fast)
    apart = bootstrap(slow).high / bootstrap(fast).low - bootstrap(slow).low / bootstrap(fast).high
    assert paired.high - paired.low < 0.2 * apart
    assert 1.4 < paired.low < paired.value < paired.high < 1.6


def test_the_ratio_is_that_of_the_totals():
    assert bootstrap_ratio([9.0, 1.0], [1.0, 1.0]).value == 5
    assert bootstrap_ratio([10.0, 1.0], [2.0, 1.0]).value == pytest.approx(11 / 3)  # not the mean of 5 and 1


def test_a_difference_of_two_methods_is_resampled_in_pairs():
    first = [1.0, 5.0, 9.0]
    interval = bootstrap(first, [v - 1 for v in first], statistic=lambda a, b: mean(a) - mean(b))
    assert [interval.low, interval.value, interval.high] == pytest.approx([1, 1, 1])


def test_rows_of_counts_are_resampled_as_rows():
    interval = bootstrap([[1, 2], [3, 4], [5, 6]], statistic=lambda rows: rows.sum(0)[0] / rows.sum(0)[1])
    assert interval.value == 9 / 12
    assert 1 / 2 <= interval.low <= interval.high <= 5 / 6


def test_an_interval_prints_as_tables_show_it():
    assert f"{Interval(1.5, 1.25, 1.75, 0.95, 4):.2f}" == "1.50 [1.25, 1.75]"
    assert str(Interval(1.5, 1.5, 1.5, 0.95, 1)) == "1.5 (one prompt)"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: bootstrap([]), "no values"),
        (lambda: bootstrap([1.0, None]), "value 1 of method 0 is None: leave the prompt out for all"),
        (lambda: bootstrap([1.0, float("nan")]), "value 1 of method 0 is nan"),
        (lambda: bootstrap([1.0], level=95), "level=95 must lie between 0 and 1"),
        (lambda: bootstrap([1.0], resamples=0), "resamples=0"),
        (lambda: bootstrap_ratio([1.0], [1.0, 2.0]), "the methods have 1, 2 values"),
        (lambda: bootstrap_ratio([1.0, 2.0], [1.0, 0.0]), "value 1 of the second method is 0.0"),
    ],
)
def test_values_that_make_no_interval_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
