"""Statistics of returns, as pure functions of NumPy arrays.

Interquartile mean and bootstrap intervals follow Agarwal et al. 2021, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice" (arXiv:2108.13264; google-research/rliable). Randomness
is an argument: every bootstrap takes the generator that it samples from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
N_RESAMPLES = 10_000
EXACT_TEST_SIZE = 16  # pairs; all 65,536 combinations of signs are evaluated

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Reduces the last axis."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


class Summary(NamedTuple):
    """Statistics of n returns of one policy.

    The interval is about this policy's mean return over initial states, not about the algorithm
    over training seeds.
    """

    n: int
    mean: float
    std: float
    """Population standard deviation (NumPy's default), as SB3 prints it."""
    iqm: float
    mean_interval: Interval
    n_left_out: int = 0
    """Number of returns that are not finite, and not part of any of these numbers."""


class Difference(NamedTuple):
    """Mean of the differences of two policies on the same seeds."""

    n: int
    mean: float
    interval: Interval


class Probability(NamedTuple):
    """Probability of improvement, 0 to 1, with its interval; 0.5 means no difference."""

    value: float
    interval: Interval


class Comparison(NamedTuple):
    """Comparison of two policies on the same seeds by four statistics."""

    difference: Difference
    probability_of_improvement: Probability
    p_sign_flip: float
    """Two-sided p-value of the sign-flip test: is the mean of the differences 0?"""
    p_wilcoxon: float
    """Two-sided p-value of the signed-rank test: are the differences symmetric about 0?"""


class SeedSummary(NamedTuple):
    """Statistics of n returns, one per training seed.

    The interval is about the algorithm over training seeds, not about the initial states of one
    policy.
    """

    n: int
    mean: float
    std: float
    """Population standard deviation."""
    iqm: float
    iqm_interval: Interval


class SeedCurve(NamedTuple):
    """Returns over training seeds at k timesteps; every array has shape [k]."""

    n: NDArray[np.int64]
    """Number of runs evaluated at each timestep."""
    iqm: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Slope(NamedTuple):
    """Slope of the evaluation return at the end of training."""

    n: int
    """Number of evaluations in the last quarter."""
    per_100k: float
    """Change of the return per 100,000 timesteps."""
    interval: Interval

    @property
    def trend(self) -> str:
        """ "rising" or "falling" if the interval excludes 0, otherwise "level"."""
        if self.interval.low > 0:
            return "rising"
        return "falling" if self.interval.high < 0 else "level"


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Return the mean of the middle half along the last axis; a quarter is cut from each end.

    As in `scipy.stats.trim_mean(values, 0.25)`, the number of values to cut is rounded down.

    >>> float(interquartile_mean([1, 2, 3, 4, 5, 6, 7, 800]))
    4.5

    Raises:
        ValueError: for no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    n = ordered.shape[-1]
    if n == 0:
        raise ValueError("the interquartile mean requires at least one value")
    cut = n // 4
    return np.asarray(ordered[..., cut : n - cut].mean(axis=-1))


def bootstrap_interval(
    values: ArrayLike,
    generator: np.random.Generator,
    statistic: Statistic = lambda resamples: resamples.mean(axis=-1),
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return the 95 % percentile bootstrap interval of a statistic of independent values.

    A single value gives an interval of zero width, as nothing is known about the spread.

    Args:
        values: shape [n].
        generator: random generator of the resampling.
        statistic: reduces the last axis; default: the mean.
        n_resamples: number of bootstrap resamples.

    Raises:
        ValueError: for no values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("a bootstrap interval requires at least one value")
    picks = generator.integers(0, sample.size, size=(n_resamples, sample.size))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(sample[picks]), [tail, 1 - tail])
    return Interval(float(low), float(high))


def stratified_bootstrap_interval(
    scores: ArrayLike,
    generator: np.random.Generator,
    statistic: Statistic = interquartile_mean,
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """Return the 95 % percentile bootstrap interval of a statistic of runs on several tasks.

    Runs are resampled within each task, so every resample has the original number of runs per task.
    With one task the result equals that of `bootstrap_interval` over its runs.

    Args:
        scores: one return per run, comparable between tasks; shape [n_runs, n_tasks].
        generator: random generator of the resampling.
        statistic: reduces [n_resamples, n_runs × n_tasks] to [n_resamples]; default: the
            interquartile mean over all runs of all tasks.
        n_resamples: number of bootstrap resamples.

    Raises:
        ValueError: for another shape, or no values.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4.1; rliable's `StratifiedBootstrap`.
    """
    sample = np.asarray(scores, dtype=np.float64)
    if sample.ndim != 2:
        raise ValueError(f"scores must have shape [n_runs, n_tasks], not {sample.shape}")
    if sample.size == 0:
        raise ValueError("a bootstrap interval requires at least one value")
    picks = generator.integers(0, len(sample), size=(n_resamples, *sample.shape))
    resamples = np.take_along_axis(sample[None], picks, axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(resamples.reshape(n_resamples, -1)), [tail, 1 - tail])
    return Interval(float(low), float(high))


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Return the finite ones of the values, shape [n]."""
    array = np.asarray(values, dtype=np.float64)
    return array[np.isfinite(array)]


def summarise_seeds(returns: ArrayLike, generator: np.random.Generator) -> SeedSummary:
    """Return mean, standard deviation and IQM with its interval of one return per seed, shape [n].

    Returns that are not finite are left out. If none is finite, the statistics are NaN.

    Raises:
        ValueError: for no values.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.size and not np.isfinite(values).any():
        return SeedSummary(0, math.nan, math.nan, math.nan, Interval(math.nan, math.nan))
    values = finite(values)
    interval = stratified_bootstrap_interval(values[:, None], generator)
    return SeedSummary(
        n=int(values.size),
        mean=float(values.mean()),
        std=float(values.std()),
        iqm=float(interquartile_mean(values)),
        iqm_interval=interval,
    )


def curve_over_seeds(returns: ArrayLike, generator: np.random.Generator) -> SeedCurve:
    """Return the IQM over training seeds, with its interval, at each timestep.

    Args:
        returns: shape [n_runs, k]; NaN where a run was not evaluated.
        generator: random generator of the bootstrap.

    Raises:
        ValueError: for a timestep at which no run was evaluated.
    """
    rows = []
    for column in np.asarray(returns, dtype=np.float64).T:
        summary = summarise_seeds(column[~np.isnan(column)], generator)
        rows.append((summary.n, summary.iqm, *summary.iqm_interval))
    n, iqm, low, high = np.asarray(rows, dtype=np.float64).reshape(-1, 4).T
    return SeedCurve(n.astype(np.int64), iqm, low, high)


def summarise(returns: ArrayLike, generator: np.random.Generator) -> Summary:
    """Return mean with its interval, standard deviation and IQM of returns, shape [n].

    Returns that are not finite are left out and counted. If none is finite, all statistics are NaN.
    """
    values = finite(returns)
    n_left_out = np.size(returns) - values.size
    if n_left_out and not values.size:
        nothing = Interval(math.nan, math.nan)
        return Summary(0, math.nan, math.nan, math.nan, nothing, n_left_out)
    return Summary(
        n=int(values.size),
        mean=float(values.mean()),
        std=float(values.std()),
        iqm=float(interquartile_mean(values)),
        mean_interval=bootstrap_interval(values, generator),
        n_left_out=n_left_out,
    )


def paired_difference(
    returns: ArrayLike, baseline: ArrayLike, generator: np.random.Generator
) -> Difference:
    """Return the mean of returns − baseline, paired by seed, with its interval; shapes [n].

    Raises:
        ValueError: if the numbers of episodes differ.
    """
    ours, theirs = np.asarray(returns, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"expected pairs of returns, not {ours.size} and {theirs.size} returns")
    differences = ours - theirs
    return Difference(
        n=int(differences.size),
        mean=float(differences.mean()),
        interval=bootstrap_interval(differences, generator),
    )


def paired_difference_of_few(returns: ArrayLike, baseline: ArrayLike) -> Difference:
    """Return the mean of returns − baseline, by pairs, with Student's interval; shapes [n].

    It is meant for a few training seeds. The 95 % percentile bootstrap interval of 3 normal
    differences contains the true mean in only 76 of 100 cases, and that of 5 in 83. Student's
    interval has its nominal coverage for normal differences. For one pair it is infinite.

    >>> found = paired_difference_of_few([3.0, 5.0], [2.0, 2.0])
    >>> found.mean, round(found.interval.low, 1), round(found.interval.high, 1)
    (2.0, -10.7, 14.7)

    Raises:
        ValueError: if the numbers of returns differ, or are 0.
    """
    ours, theirs = np.asarray(returns, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if ours.shape != theirs.shape or ours.size == 0:
        raise ValueError(f"expected pairs of returns, not {ours.size} and {theirs.size} returns")
    differences = ours - theirs
    return Difference(
        int(differences.size), float(differences.mean()), student_interval(differences)
    )


def difference_of_few(ours: ArrayLike, theirs: ArrayLike) -> Difference:
    """Return the difference of the means of two independent samples, with Welch's interval.

    The shapes are [n] and [m]. It is meant for a few training seeds that are not pairs. With fewer
    than two values on a side the interval is infinite.

    >>> found = difference_of_few([3.0, 5.0, 7.0], [1.0, 2.0])
    >>> found.mean, round(found.interval.low, 1), round(found.interval.high, 1)
    (3.5, -0.8, 7.8)

    Raises:
        ValueError: for no values.

    Source: Welch 1947, "The generalization of 'Student's' problem".
    """
    x, y = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if x.size == 0 or y.size == 0:
        raise ValueError("a difference requires at least one value per side")
    n, mean, margin = min(x.size, y.size), float(x.mean() - y.mean()), math.inf
    if n > 1:
        errors = np.array([x.var(ddof=1) / x.size, y.var(ddof=1) / y.size])
        total, sizes = float(errors.sum()), np.array([x.size, y.size])
        degrees = total**2 / float((errors**2 / (sizes - 1)).sum()) if total else n - 1
        margin = student_quantile(degrees) * math.sqrt(total)
    return Difference(n, mean, Interval(mean - margin, mean + margin))


def student_interval(values: ArrayLike) -> Interval:
    """Return Student's interval of the mean of n values, shape [n]; infinite for one value.

    >>> low, high = student_interval([2.0, 4.0, 6.0])
    >>> round(low, 2), round(high, 2)
    (-0.97, 8.97)
    """
    array = np.asarray(values, dtype=np.float64)
    n, mean, margin = array.size, float(array.mean()), math.inf
    if n > 1:
        margin = student_quantile(n - 1) * float(array.std(ddof=1)) / math.sqrt(n)
    return Interval(mean - margin, mean + margin)


def probability_of_improvement(
    ours: ArrayLike,
    theirs: ArrayLike,
    generator: np.random.Generator,
    n_resamples: int = N_RESAMPLES,
) -> Probability:
    """Return the probability that a random return of ours exceeds one of theirs; ties count half.

    The shapes are [n] and [m]. All n × m pairs count, regardless of seeds, and each side is
    resampled separately, so the interval is that of two independent samples.

    Source: Agarwal et al. 2021 (arXiv:2108.13264), section 4; the value is Mann and Whitney's U
    divided by n × m.

    >>> probability_of_improvement([2, 4], [1, 3], np.random.default_rng(0)).value
    0.75

    Raises:
        ValueError: for no values.
    """
    x, y = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if x.size == 0 or y.size == 0:
        raise ValueError("the probability of improvement requires at least one value per side")
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)  # [n, m]
    # How often each resample contains each return: [n_resamples, n] and [n_resamples, m].
    drawn_x = generator.multinomial(x.size, np.full(x.size, 1 / x.size), size=n_resamples)
    drawn_y = generator.multinomial(y.size, np.full(y.size, 1 / y.size), size=n_resamples)
    resampled = ((drawn_x @ wins) * drawn_y).sum(axis=1) / wins.size
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Probability(float(wins.mean()), Interval(float(low), float(high)))


def sign_flip_test(differences: ArrayLike, generator: np.random.Generator) -> float:
    """Return the two-sided p-value of Fisher's randomisation test for differences, shape [n].

    The null hypothesis is that the mean is 0: each difference could equally have had the other
    sign. The test is exact up to `EXACT_TEST_SIZE` pairs, and uses random flips above.

    >>> sign_flip_test([1.0, 2.0, 3.0], np.random.default_rng(0))  # 2 of 8 sums are as far from 0
    0.25

    Raises:
        ValueError: for no values.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        raise ValueError("a test requires at least one pair")
    # Whether a sum is as extreme as the observed one must not depend on the last bit.
    scale = float(np.abs(values).max()) or 1.0
    return _share_of_flips_as_far(np.round(values / scale, 12), generator)


def signed_rank_test(differences: ArrayLike, generator: np.random.Generator) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test for differences, shape [n].

    Pairs without a difference are left out, as by Wilcoxon; ties get their mean rank. The test is
    exact up to `EXACT_TEST_SIZE` pairs, also with ties, and uses random flips above.

    Raises:
        ValueError: for no values.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.size == 0:
        raise ValueError("a test requires at least one pair")
    values = values[values != 0]
    if values.size == 0:
        return 1.0
    _, place, counts = np.unique(np.abs(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[place]
    return _share_of_flips_as_far(np.sign(values) * ranks, generator)


def _share_of_flips_as_far(values: NDArray[np.float64], generator: np.random.Generator) -> float:
    """Return the share of sign combinations whose sum is as far from 0 as the observed one."""
    n = values.size
    if n <= EXACT_TEST_SIZE:
        signs = 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1) - 1.0
        extra = 0  # the observed signs are among them
    else:
        signs = 2.0 * generator.integers(0, 2, size=(N_RESAMPLES, n)) - 1.0
        extra = 1
    sums = np.abs(signs @ values)
    as_far = int((sums >= abs(values.sum()) - 1e-9).sum())
    return (as_far + extra) / (len(signs) + extra)


def compare(ours: ArrayLike, theirs: ArrayLike, generator: np.random.Generator) -> Comparison:
    """Compare two policies' returns on the same seeds, shapes [n], in the same order.

    Pairs with a value that is not finite are left out. If none is left, all statistics are NaN.

    Raises:
        ValueError: if the numbers of episodes differ.
    """
    if np.shape(ours) == np.shape(theirs):
        both = np.isfinite(np.asarray(ours, float)) & np.isfinite(np.asarray(theirs, float))
        if both.size and not both.any():
            nothing = Interval(math.nan, math.nan)
            return Comparison(
                Difference(0, math.nan, nothing),
                Probability(math.nan, nothing),
                math.nan,
                math.nan,
            )
        ours, theirs = np.asarray(ours)[both], np.asarray(theirs)[both]
    difference = paired_difference(ours, theirs, generator)
    differences = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    return Comparison(
        difference=difference,
        probability_of_improvement=probability_of_improvement(ours, theirs, generator),
        p_sign_flip=sign_flip_test(differences, generator),
        p_wilcoxon=signed_rank_test(differences, generator),
    )


def slope_of_last_quarter(timesteps: ArrayLike, returns: ArrayLike) -> Slope | None:
    """Fit a straight line to the evaluations in the last quarter of training by least squares.

    The interval is Student's, with n − 2 degrees of freedom. It assumes independent residuals;
    those of one learner are correlated, so the interval is a little too narrow.

    Args:
        timesteps: ascending; shape [k].
        returns: mean return of each evaluation; shape [k].

    Returns:
        The slope; None with fewer than three evaluations in the last quarter.
    """
    x, y = np.asarray(timesteps, dtype=np.float64), np.asarray(returns, dtype=np.float64)
    late = (x > 0.75 * x.max(initial=0.0)) & np.isfinite(y)
    x, y = x[late] / 100_000, y[late]
    n = int(x.size)
    if n < 3:
        return None
    centred = x - x.mean()
    spread = float(centred @ centred)
    slope = float(centred @ y) / spread
    residuals = y - y.mean() - slope * centred
    error = math.sqrt(float(residuals @ residuals) / (n - 2) / spread)
    margin = student_quantile(n - 2) * error
    return Slope(n, slope, Interval(slope - margin, slope + margin))


def student_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Return half the width of Student's central interval, in standard errors.

    >>> round(student_quantile(4), 3)
    2.776
    """
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))
