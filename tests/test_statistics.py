"""Statistics, compared with values computed by hand and with SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from gallop.evaluation.statistics import (
    bootstrap_interval,
    compare,
    curve_over_seeds,
    interquartile_mean,
    paired_difference,
    probability_of_improvement,
    sign_flip_test,
    signed_rank_test,
    slope_of_last_quarter,
    stratified_bootstrap_interval,
    student_quantile,
    summarise,
    summarise_seeds,
)

returns = arrays(np.float64, st.integers(1, 40), elements=st.floats(-1e6, 1e6))


def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 2.0, 4.0], 7 / 3),  # a quarter of 3, rounded down, is 0
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
    with pytest.raises(ValueError, match="at least one value"):
        interquartile_mean([])
    with pytest.raises(ValueError, match="at least one value"):
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


def test_the_bootstrap_interval_covers_the_true_mean_at_about_its_nominal_rate():
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


def test_one_episode_has_an_interval_of_zero_width():
    assert summarise([3.0], generator()).mean_interval == (3.0, 3.0)


def test_a_paired_difference_ignores_the_common_part_of_the_pairs():
    start = np.array([0.0, 1000.0, -500.0, 70.0])  # hard and easy seeds
    difference = paired_difference(start + 10.0, start, generator())
    assert difference.mean == 10.0
    assert difference.interval == (10.0, 10.0)


def test_pairs_must_match():
    with pytest.raises(ValueError, match="2 and 3 returns"):
        paired_difference([1, 2], [1, 2, 3], generator())


def test_the_probability_of_improvement_is_mann_and_whitneys_u():
    rng = np.random.default_rng(3)
    ours, theirs = rng.integers(0, 30, 12), rng.integers(5, 35, 9)
    expected = stats.mannwhitneyu(ours, theirs).statistic / (12 * 9)
    found = probability_of_improvement(ours, theirs, generator())
    assert found.value == pytest.approx(expected)
    assert found.interval.low < found.value < found.interval.high


def test_the_probability_of_improvement_by_hand():
    assert probability_of_improvement([3, 4], [1, 2], generator()) == (1.0, (1.0, 1.0))
    assert probability_of_improvement([1, 1], [1, 1], generator()).value == 0.5
    assert probability_of_improvement([2, 4], [3, 3, 1], generator()).value == pytest.approx(4 / 6)


def test_the_interval_of_the_probability_resamples_both_sides():
    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(1, 1, 20), rng.normal(0, 1, 15)
    picks = np.random.default_rng(1)
    resampled = [
        (picks.choice(ours, 20)[:, None] > picks.choice(theirs, 15)).mean() for _ in range(20_000)
    ]
    found = probability_of_improvement(ours, theirs, generator()).interval
    assert found == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 6, 10])
def test_the_sign_flip_test_is_scipys_exact_permutation_test(n):
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert sign_flip_test(differences, generator()) == pytest.approx(expected)


def test_a_sign_flip_test_of_many_pairs_is_sampled_and_never_zero():
    differences = np.random.default_rng(0).normal(0.35, 1, 40)
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert sign_flip_test(differences, generator()) == pytest.approx(expected, abs=0.01)
    assert 0 < sign_flip_test(np.ones(40), generator()) < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_the_signed_rank_test_is_scipys(seed):
    differences = np.random.default_rng(seed).normal(0.5, 1, 12)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank_test(differences, generator()) == pytest.approx(expected)


def test_the_signed_rank_test_shares_ranks_of_ties_and_drops_zeros():
    # Ranks of 1, 1, -1, 2 are 2, 2, 2, 4, their sum 6; 8 of the 16 sums of ±2 ±2 ±2 ±4 are as far
    # from 0: ±10 in one way each, ±6 in three.
    assert signed_rank_test([0, 1, 1, -1, 2, 0], generator()) == pytest.approx(8 / 16)
    assert signed_rank_test([0.0, 0.0], generator()) == 1.0


def test_ten_pairs_that_are_all_better_have_the_smallest_possible_p():
    found = compare(np.arange(10.0) + 1, np.arange(10.0), generator())
    assert found.p_sign_flip == found.p_wilcoxon == 2 / 1024
    assert found.difference.mean == 1.0


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 8, 30, 101])
def test_students_quantile_is_scipys(degrees):
    assert student_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees))


def test_the_slope_of_the_last_quarter_is_scipys_line_and_interval():
    timesteps = np.arange(1, 41) * 50_000
    returns = 0.002 * timesteps + np.random.default_rng(2).normal(0, 300, 40)
    line = stats.linregress(timesteps[30:], returns[30:])
    found = slope_of_last_quarter(timesteps, returns)
    assert found is not None and found.n == 10
    assert found.per_100k == pytest.approx(line.slope * 100_000)
    margin = stats.t.ppf(0.975, 8) * line.stderr * 100_000
    assert found.interval == pytest.approx(
        (line.slope * 100_000 - margin, line.slope * 100_000 + margin)
    )


def test_the_slope_tells_whether_the_return_still_rises():
    timesteps = np.arange(1, 21) * 5_000
    noise = np.tile([1.0, -1.0], 10)
    for gain, trend in ((50.0, "rising"), (-50.0, "falling"), (0.0, "level")):
        slope = slope_of_last_quarter(timesteps, gain * np.arange(20) + noise)
        assert slope is not None and slope.trend == trend
    assert slope_of_last_quarter(timesteps[:8], noise[:8]) is None, (
        "two evaluations are too few for a line"
    )
    assert slope_of_last_quarter([], []) is None


# --- runs of several training seeds --------------------------------------------------------------


def mean(resamples):
    return resamples.mean(axis=-1)


def test_a_stratified_resample_holds_as_many_runs_of_each_task():
    # If runs agree within each task, resampling changes nothing, however different the tasks are.
    scores = np.tile([0.0, 100.0], (5, 1))
    assert stratified_bootstrap_interval(scores, generator(), mean) == (50.0, 50.0)
    low, high = bootstrap_interval(scores.ravel(), generator())
    assert low < 30 and high > 70


def test_the_stratified_interval_of_one_task_is_the_plain_bootstrap_over_seeds():
    values = np.random.default_rng(1).normal(1000, 200, size=9)
    for statistic in (mean, interquartile_mean):
        ours = stratified_bootstrap_interval(values[:, None], generator(), statistic)
        assert ours == bootstrap_interval(values, generator(), statistic)


def test_the_stratified_interval_is_scipys_of_two_independent_samples():
    x, y = np.random.default_rng(1).normal([[0.0], [50.0]], [[10.0], [30.0]], size=(2, 12))
    scores = np.stack([x, y], axis=1)
    ours = stratified_bootstrap_interval(scores, generator(), mean, n_resamples=20_000)
    theirs = stats.bootstrap(
        (x, y),
        lambda x, y, axis: (x.mean(axis=axis) + y.mean(axis=axis)) / 2,
        n_resamples=20_000,
        method="percentile",
        rng=generator(),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_the_stratified_interval_is_of_the_iqm_over_all_runs_of_all_tasks():
    # The first task is always (0, 0). The second becomes (1, 1), (1, 9), (9, 1) or (9, 9), so that
    # the middle half of the four is {0, 1} in three cases of four, otherwise {0, 9}.
    scores = np.array([[0.0, 1.0], [0.0, 9.0]])
    assert stratified_bootstrap_interval(scores, generator()) == (0.5, 4.5)
    many = np.random.default_rng(1).exponential(size=(8, 3))
    asked_for = stratified_bootstrap_interval(many, generator(), interquartile_mean)
    assert stratified_bootstrap_interval(many, generator()) == asked_for


def test_scores_need_two_axes_and_a_value():
    with pytest.raises(ValueError, match=r"\[n_runs, n_tasks\]"):
        stratified_bootstrap_interval([1.0, 2.0], generator())
    with pytest.raises(ValueError, match="at least one value"):
        stratified_bootstrap_interval(np.empty((0, 2)), generator())


def test_a_summary_over_seeds_by_hand():
    summary = summarise_seeds([1.0, 2.0, 3.0, 100.0], generator())
    assert (summary.n, summary.mean, summary.iqm) == (4, 26.5, 2.5)
    assert summary.std == np.std([1.0, 2.0, 3.0, 100.0])
    assert 1 <= summary.iqm_interval.low < 2.5 < summary.iqm_interval.high <= 100


def test_a_curve_leaves_out_the_runs_that_were_not_evaluated():
    curve = curve_over_seeds([[1.0, 4.0], [3.0, np.nan]], generator())
    assert curve.n.tolist() == [2, 1]
    assert curve.iqm.tolist() == [2.0, 4.0]
    # A resample of {1, 3} has mean 1, 2 or 3 with probability ¼, ½, ¼; one run has no spread.
    assert (curve.low.tolist(), curve.high.tolist()) == ([1.0, 4.0], [3.0, 4.0])
    with pytest.raises(ValueError, match="at least one value"):
        curve_over_seeds([[np.nan]], generator())
