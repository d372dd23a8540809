"""Statistics against values computed by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from gallop.statistics import (
    bootstrap_interval,
    interquartile_mean,
    paired_difference,
    summarise,
)

returns = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6))


def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 4.0], 7 / 3),  # a quarter of 3, rounded down, is none
        ([100.0, 1.0, 2.0, -50.0], 1.5),
        ([1, 2, 3, 4, 5, 6, 7, 800], 4.5),
        (list(range(10)), 4.5),  # cuts two from each end
    ],
)
def test_the_interquartile_mean_by_hand(values, expected):
    assert interquartile_mean(values) == pytest.approx(expected)


@given(returns)
def test_the_interquartile_mean_is_scipys_trimmed_mean(values):
    assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_interquartile_mean_works_along_the_last_axis():
    rows = np.array([[100.0, 1.0, 2.0, -50.0], [1.0, 1.0, 1.0, 9.0]])
    np.testing.assert_allclose(interquartile_mean(rows), [1.5, 1.0])


def test_no_values_have_no_statistics():
    with pytest.raises(ValueError, match="no values"):
        interquartile_mean([])
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([], generator())


def test_the_bootstrap_interval_is_scipys_percentile_interval():
    values = np.random.default_rng(1).normal(1000, 200, size=25)
    ours = bootstrap_interval(values, generator(), n_resamples=20_000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=generator()
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_the_bootstrap_interval_of_two_values_by_hand():
    # A resample of {0, 1} has mean 0, ½ or 1 with probability ¼, ½, ¼: 2.5 % and 97.5 % are 0, 1.
    assert bootstrap_interval([0.0, 1.0], generator()) == (0.0, 1.0)


def test_the_bootstrap_interval_covers_the_true_mean_about_as_often_as_it_says():
    draws = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        interval = bootstrap_interval(draws.normal(5, 2, size=30), draws, n_resamples=500)
        covered += interval.low <= 5 <= interval.high
    assert 0.89 <= covered / 300 <= 0.98


@given(returns)
def test_an_interval_lies_within_the_values(values):
    low, high = bootstrap_interval(values, generator(), n_resamples=100)
    slack = 1e-9 * (1 + np.abs(values).max())
    assert values.min() - slack <= low <= high <= values.max() + slack


def test_the_same_generator_gives_the_same_interval():
    values = [1.0, 5.0, 9.0]
    assert bootstrap_interval(values, generator()) == bootstrap_interval(values, generator())


def test_a_summary_by_hand():
    summary = summarise([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0], generator())
    assert (summary.n, summary.mean, summary.std, summary.iqm) == (8, 5.0, 2.0, 4.5)
    assert summary.mean_interval.low < 5.0 < summary.mean_interval.high


def test_one_episode_has_an_interval_of_no_width():
    assert summarise([3.0], generator()).mean_interval == (3.0, 3.0)


def test_a_paired_difference_ignores_what_the_pairs_share():
    start = np.array([0.0, 1000.0, -500.0, 70.0])  # hard and easy seeds
    difference = paired_difference(start + 10.0, start, generator())
    assert difference.mean == 10.0
    assert difference.interval == (10.0, 10.0)


def test_pairs_must_match():
    with pytest.raises(ValueError, match="2 returns and 3"):
        paired_difference([1, 2], [1, 2, 3], generator())
