"""Statistics over tasks, compared with values computed by hand, with SciPy and with rliable."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gallop.evaluation.over_tasks import (
    aggregate_iqm,
    aggregate_mean,
    improvement_over_tasks,
    normalised,
    performance_profile,
    seeds_needed,
    seeds_needed_relative,
)
from gallop.evaluation.statistics import (
    bootstrap_interval,
    probability_of_improvement,
    stratified_bootstrap_interval,
    summarise_seeds,
)

RLIABLE = json.loads(
    Path(__file__).with_name("over_tasks_by_rliable.json").read_text(encoding="utf-8")
)

scores_of_tasks = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.lists(st.integers(-3, 3), min_size=1, max_size=4),
    min_size=1,
)


def generator():
    return np.random.default_rng(0)


def with_std(std, mean=0.0):
    """Three returns with this mean and this standard deviation (ddof=1)."""
    return [mean - std, mean, mean + std]


# Scores


def test_scores_by_hand():
    returns = {"Hopper-v5": [20.0, 1520.0, 4520.0], "Pendulum-v1": [-1400.0, -150.0]}
    low = {"Pendulum-v1": -1400.0, "Hopper-v5": 20.0}
    high = {"Hopper-v5": 3020.0, "Pendulum-v1": -150.0, "unused": 1.0}
    scores = normalised(returns, low, high)
    assert list(scores) == ["Hopper-v5", "Pendulum-v1"]
    assert scores["Hopper-v5"].tolist() == [0.0, 0.5, 1.5]
    assert scores["Pendulum-v1"].tolist() == [0.0, 1.0]


def test_a_task_without_a_reference_has_no_scores():
    with pytest.raises(ValueError, match="Ant-v5 has no reference"):
        normalised({"Ant-v5": [1.0]}, {"Ant-v5": 0.0}, {})
    with pytest.raises(ValueError, match="Ant-v5 has no reference"):
        normalised({"Ant-v5": [1.0]}, {}, {"Ant-v5": 0.0})


@pytest.mark.parametrize("high", [5.0, 4.0, math.nan])
def test_the_high_reference_must_be_above_the_low_one(high):
    with pytest.raises(ValueError, match="must be above the low one"):
        normalised({"Ant-v5": [1.0]}, {"Ant-v5": 5.0}, {"Ant-v5": high})


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({}, "at least one task"),
        ({"a": [1.0], "b": []}, "b requires one number per seed"),
        ({"a": [[1.0, 2.0]]}, r"not shape \(1, 2\)"),
        ({"a": [1.0, math.nan]}, "not finite"),
        ({"a": [1.0, -math.inf]}, "not finite"),
    ],
)
def test_numbers_that_are_no_scores_are_refused_everywhere(scores, message):
    good = {"a": [1.0]}
    for statistic in (
        lambda: normalised(scores, {"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0}),
        lambda: aggregate_iqm(scores, generator()),
        lambda: aggregate_mean(scores, generator()),
        lambda: performance_profile(scores, [0.0], generator()),
        lambda: improvement_over_tasks(scores, good, generator()),
        lambda: improvement_over_tasks(good, scores, generator()),
        lambda: seeds_needed(scores, 1.0),
        lambda: seeds_needed_relative(scores, 1.0),
    ):
        with pytest.raises(ValueError, match=message):
            statistic()


# IQM and mean


def test_the_iqm_pools_the_runs_of_all_tasks():
    # Eight runs: two are cut from each end, whatever their task.
    scores = {"a": [1.0, 2.0, 3.0, 4.0, 5.0], "b": [900.0, -900.0, 6.0]}
    assert aggregate_iqm(scores, generator()).value == (2.0 + 3.0 + 4.0 + 5.0) / 4


def test_the_mean_counts_every_task_the_same():
    assert aggregate_mean({"a": [0.0, 1.0, 2.0, 5.0], "b": [4.0]}, generator()).value == 3.0


def test_seeds_are_resampled_within_their_task_only():
    # Resampled from the pool, half of the runs of a resample could be of either task.
    scores = {"easy": [1.0] * 6, "hard": [0.0] * 4}
    for estimate in (aggregate_iqm(scores, generator()), aggregate_mean(scores, generator())):
        assert estimate.interval == (estimate.value, estimate.value)
    profile = performance_profile(scores, [0.5], generator())
    assert (profile.low[0], profile.share[0], profile.high[0]) == (0.6, 0.6, 0.6)


def test_an_interval_of_two_seeds_by_hand():
    # The mean of the resampled pair is 0, 1 or 2, with 2.5 % below and above far exceeded.
    scores = {"a": [0.0, 2.0], "b": [10.0]}
    assert aggregate_mean(scores, generator()).interval == (5.0, 6.0)
    assert aggregate_iqm(scores, generator()).interval == pytest.approx((10 / 3, 14 / 3))


def test_one_task_has_the_interval_of_a_group_of_seeds():
    returns = np.random.default_rng(5).normal(1000, 200, size=7)
    assert aggregate_iqm({"a": returns}, generator()).interval == (
        summarise_seeds(returns, generator()).iqm_interval
    )
    assert aggregate_mean({"a": returns}, generator()).interval == (
        bootstrap_interval(returns, generator())
    )


def test_equal_numbers_of_seeds_have_the_interval_of_the_matrix():
    matrix = np.random.default_rng(6).normal(size=(6, 4))
    scores = {str(i): column for i, column in enumerate(matrix.T)}
    ours = aggregate_iqm(scores, generator(), n_resamples=40_000).interval
    same = stratified_bootstrap_interval(matrix, generator(), n_resamples=40_000)
    assert ours == pytest.approx(same, abs=0.02 * (same.high - same.low))


def test_the_generator_is_the_only_randomness():
    scores = {"a": [1.0, 2.0, 4.0], "b": [0.5, 3.0]}
    assert aggregate_iqm(scores, generator(), 50) == aggregate_iqm(scores, generator(), 50)
    other = aggregate_iqm(scores, np.random.default_rng(1), 50)
    assert aggregate_iqm(scores, generator(), 50).interval != other.interval


# Performance profile


def test_a_profile_by_hand():
    scores = {"a": [0.0, 0.5, 1.0], "b": [0.5]}
    profile = performance_profile(scores, [-1.0, 0.0, 0.5, 1.0], generator())
    assert profile.thresholds.tolist() == [-1.0, 0.0, 0.5, 1.0]
    assert profile.share.tolist() == [1.0, 0.75, 0.25, 0.0]  # above, not at, the threshold
    # No resample of [0, 0.5, 1] has more than three runs above 0; in one of 27 all three are 0.
    assert profile.low.tolist() == [1.0, 0.25, 0.0, 0.0]
    assert profile.high.tolist() == [1.0, 1.0, 0.75, 0.0]


def test_the_band_is_the_one_of_binomial_counts():
    # The number of runs above a threshold is a sum of binomial variables, one per task.
    random = np.random.default_rng(7)
    scores = {str(n): random.normal(size=n) for n in (5, 9, 14)}
    levels = np.array([-1.0, 0.0, 1.0])
    profile = performance_profile(scores, levels, generator(), n_resamples=100_000)
    for i, level in enumerate(levels):
        pmf = np.ones(1)
        for task in scores.values():
            n_above = int((task > level).sum())
            binomial = stats.binom.pmf(np.arange(task.size + 1), task.size, n_above / task.size)
            pmf = np.convolve(pmf, binomial)
        ends = np.searchsorted(pmf.cumsum(), [0.025, 0.975]) / 28
        assert (profile.low[i], profile.high[i]) == pytest.approx(ends, abs=1e-12)


@given(scores_of_tasks)
def test_a_profile_falls_and_stays_within_its_band(scores):
    profile = performance_profile(scores, np.arange(-4, 4.5, 0.5), generator(), n_resamples=200)
    for line in (profile.share, profile.low, profile.high):
        assert line[0] == 1 and line[-1] == 0 and (np.diff(line) <= 0).all()
    assert (profile.low <= profile.share).all() and (profile.share <= profile.high).all()


def test_thresholds_have_one_dimension():
    with pytest.raises(ValueError, match=r"\[n_thresholds\], not \(\)"):
        performance_profile({"a": [1.0]}, 0.5, generator())


# Probability of improvement


def test_the_probability_of_improvement_by_hand():
    ours = {"a": [2.0, 4.0], "b": [1.0], "only ours": [0.0]}
    theirs = {"b": [1.0, 1.0, 0.0, 2.0], "a": [1.0, 3.0], "only theirs": [9.0]}
    # a: 3 of 4 pairs; b: two ties, one win, one loss.
    assert improvement_over_tasks(ours, theirs, generator()).value == (3 / 4 + 2 / 4) / 2


def test_the_probability_of_improvement_is_the_mean_of_mann_whitneys():
    random = np.random.default_rng(8)
    ours = {task: random.integers(0, 9, size=n) for task, n in (("a", 4), ("b", 7), ("c", 2))}
    theirs = {task: random.integers(0, 9, size=n) for task, n in (("a", 6), ("b", 3), ("c", 5))}
    shares = [
        stats.mannwhitneyu(ours[task], theirs[task]).statistic
        / (ours[task].size * theirs[task].size)
        for task in ours
    ]
    found = improvement_over_tasks(ours, theirs, generator()).value
    assert found == pytest.approx(np.mean(shares), abs=1e-12)


def test_one_task_has_the_probability_of_two_groups():
    random = np.random.default_rng(9)
    ours, theirs = random.normal(0.3, 1, size=5), random.normal(size=8)
    assert improvement_over_tasks({"a": ours}, {"a": theirs}, generator()) == (
        probability_of_improvement(ours, theirs, generator())
    )


def test_both_sides_are_resampled():
    spread, fixed = {"a": [0.0, 2.0]}, {"a": [1.0]}
    assert improvement_over_tasks(spread, fixed, generator()) == (0.5, (0.0, 1.0))
    assert improvement_over_tasks(fixed, spread, generator()) == (0.5, (0.0, 1.0))


def test_runs_are_never_compared_across_tasks():
    ours, theirs = {"a": [1.0, 1.1], "b": [101.0]}, {"a": [0.0], "b": [100.0, 100.9]}
    assert improvement_over_tasks(ours, theirs, generator()) == (1.0, (1.0, 1.0))


@given(scores_of_tasks, scores_of_tasks)
def test_either_side_improves_with_a_probability_of_one_in_all(ours, theirs):
    if ours.keys() & theirs.keys():
        forth = improvement_over_tasks(ours, theirs, generator(), n_resamples=10).value
        back = improvement_over_tasks(theirs, ours, generator(), n_resamples=10).value
        assert forth + back == pytest.approx(1.0)
    else:
        with pytest.raises(ValueError, match="no task in common"):
            improvement_over_tasks(ours, theirs, generator())


# Memory


def test_ten_tasks_of_fifty_seeds_need_less_than_100_mb():
    random = np.random.default_rng(10)
    scores = {str(i): random.normal(size=50) for i in range(10)}
    for statistic in (
        lambda: aggregate_iqm(scores, generator()),
        lambda: aggregate_mean(scores, generator()),
        lambda: performance_profile(scores, np.linspace(-2, 2, 100), generator()),
        lambda: improvement_over_tasks(scores, scores, generator()),
    ):
        tracemalloc.start()
        statistic()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100e6


# Number of seeds


def power_of_the_t_test(n, difference, std):
    random = np.random.default_rng(11)
    x = random.normal(0.0, std, size=(n, 100_000))
    y = random.normal(difference, std, size=(n, 100_000))
    return float((stats.ttest_ind(x, y).pvalue < 0.05).mean())


def test_the_number_of_seeds_has_the_power_in_a_simulation():
    n = seeds_needed({"a": with_std(30.0, mean=1000.0)}, difference=30.0)
    assert n == 17
    assert 0.80 < power_of_the_t_test(n, 30.0, 30.0) < 0.83
    assert 0.77 < power_of_the_t_test(n - 1, 30.0, 30.0) < 0.795


def test_another_power_by_simulation():
    n = seeds_needed({"a": with_std(2.0)}, difference=2.4, power=0.5)
    assert n == 7
    assert 0.5 < power_of_the_t_test(n, 2.4, 2.0) < 0.56
    assert power_of_the_t_test(n - 1, 2.4, 2.0) < 0.49


def test_the_standard_deviation_is_pooled_by_degrees_of_freedom():
    # Variances 1 with 1 degree of freedom, 4 with 2, and none of a single seed: mean 3.
    root = math.sqrt(0.5)
    scores = {"a": [-root, root], "b": [98.0, 100.0, 102.0], "c": [7.0]}
    expected = seeds_needed({"x": with_std(math.sqrt(3))}, difference=1.0)
    assert seeds_needed(scores, difference=1.0) == expected == 49


def test_a_share_is_of_the_mean_of_each_task():
    # Relative standard deviations of 0.1 on all; the sign of the returns does not matter.
    returns = {
        "Hopper-v5": with_std(300.0, mean=3000.0),
        "Pendulum-v1": with_std(15.0, mean=-150.0),
    }
    assert seeds_needed_relative(returns, share=0.1) == 17
    assert seeds_needed_relative(returns, share=0.2) == seeds_needed({"x": with_std(1.0)}, 2.0) == 6


def test_a_task_with_a_mean_of_zero_has_no_relative_difference():
    returns = {"a": [0.0, 0.0], "b": with_std(10.0, mean=100.0)}
    assert seeds_needed_relative(returns, share=0.1) == 17
    assert seeds_needed_relative({"a": [-1.0, 1.0]}, share=0.1) is None


def test_single_seeds_do_not_tell_how_many_are_needed():
    assert seeds_needed({"a": [1.0], "b": [2.0]}, difference=1.0) is None
    assert seeds_needed_relative({"a": [1.0], "b": [2.0]}, share=0.1) is None


def test_two_seeds_are_enough_without_spread():
    assert seeds_needed({"a": [5.0, 5.0]}, difference=1e-9) == 2
    assert seeds_needed({"a": [0.1, 0.1, 0.1]}, difference=1e300) == 2
    assert seeds_needed_relative({"a": [5.0, 5.0]}, share=0.1) == 2


def test_a_small_difference_needs_the_seeds_of_the_normal_distribution():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    found = seeds_needed({"a": with_std(1.0)}, difference=0.01)
    assert found == pytest.approx(2 * (z / 0.01) ** 2, abs=2)


@pytest.mark.parametrize("difference", [0.0, -1.0, math.inf, math.nan])
def test_a_difference_to_be_found_is_positive(difference):
    with pytest.raises(ValueError, match="must be positive"):
        seeds_needed({"a": [1.0, 2.0]}, difference)
    with pytest.raises(ValueError, match="must be positive"):
        seeds_needed_relative({"a": [1.0, 2.0]}, difference)


@pytest.mark.parametrize("power", [0.05, 0.0, 1.0, 80, math.nan])
def test_a_power_is_above_the_level_and_below_one(power):
    with pytest.raises(ValueError, match=r"power must be between 0\.05 and 1"):
        seeds_needed({"a": [1.0, 2.0]}, 1.0, power)


# rliable


def matches(interval_end, theirs, end, i=0):
    """Whether one batch's end is within the Monte-Carlo error of the mean of rliable's batches."""
    error = theirs["batch_std"][0 if end == "low" else 1][i] * math.sqrt(
        1 + 1 / RLIABLE["n_batches"]
    )
    return interval_end == pytest.approx(theirs[end][i], abs=4 * error + 1e-12)


@pytest.mark.parametrize("name", RLIABLE["scores"])
@pytest.mark.parametrize(("statistic", "ours"), [("iqm", aggregate_iqm), ("mean", aggregate_mean)])
def test_iqm_and_mean_are_rliables(statistic, ours, name):
    theirs = RLIABLE[statistic][name]
    value, interval = ours(RLIABLE["scores"][name], generator(), RLIABLE["n_resamples"])
    assert value == pytest.approx(theirs["value"][0], abs=1e-12)
    assert matches(interval.low, theirs, "low") and matches(interval.high, theirs, "high")


@pytest.mark.parametrize("name", RLIABLE["scores"])
def test_the_profile_is_rliables(name):
    theirs, scores = RLIABLE["profile"][name], RLIABLE["scores"][name]
    profile = performance_profile(
        scores, RLIABLE["thresholds"], generator(), RLIABLE["n_resamples"]
    )
    np.testing.assert_allclose(profile.share, theirs["value"], rtol=0, atol=1e-12)
    for i in range(len(RLIABLE["thresholds"])):
        assert matches(profile.low[i], theirs, "low", i)
        assert matches(profile.high[i], theirs, "high", i)


@pytest.mark.parametrize("pair", RLIABLE["improvement"])
def test_the_probability_of_improvement_is_rliables(pair):
    theirs = RLIABLE["improvement"][pair]
    ours, other = (RLIABLE["scores"][name] for name in pair.split(" over "))
    value, interval = improvement_over_tasks(ours, other, generator(), RLIABLE["n_resamples"])
    assert value == pytest.approx(theirs["value"][0], abs=1e-12)
    assert matches(interval.low, theirs, "low") and matches(interval.high, theirs, "high")


def test_the_scores_of_the_comparison_have_ties():
    scores = RLIABLE["scores"]
    at_a_threshold = {x for task in scores["B 5"].values() for x in task} & {*RLIABLE["thresholds"]}
    assert at_a_threshold
    ours, theirs = scores["A 5"], scores["B 5"]
    assert any(set(ours[task]) & set(theirs[task]) for task in ours)


@pytest.mark.parametrize("row", RLIABLE["seeds_needed"])
def test_the_numbers_of_seeds_are_those_of_statsmodels(row):
    assert seeds_needed({"a": with_std(1.0)}, row["effect"]) == row["n_seeds"]
