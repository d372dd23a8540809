"""What a set of returns says: pure functions over NumPy arrays.

Interquartile mean and bootstrap intervals follow Agarwal et al. 2021, "Deep Reinforcement Learning
at the Edge of the Statistical Precipice" (arXiv:2108.13264; google-research/rliable). Randomness
is an argument: every bootstrap takes the generator that it draws from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
N_RESAMPLES = 10_000

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Reduces the last axis."""


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


class Summary(NamedTuple):
    """Statistics of n returns of one policy. The interval is about the mean return of this policy
    over starts, not about the algorithm over training seeds."""

    n: int
    mean: float
    std: float
    """Population standard deviation (NumPy's default), as SB3 prints it."""
    iqm: float
    mean_interval: Interval


class Difference(NamedTuple):
    """Mean of the differences of two policies on the same seeds."""

    n: int
    mean: float
    interval: Interval


def interquartile_mean(values: ArrayLike) -> NDArray[np.float64]:
    """Mean of the middle half along the last axis: a quarter is cut from each end.

    As `scipy.stats.trim_mean(values, 0.25)`, the number cut is rounded down.

    >>> float(interquartile_mean([1, 2, 3, 4, 5, 6, 7, 800]))
    4.5

    Raises:
        ValueError: for no values.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    n = ordered.shape[-1]
    if n == 0:
        raise ValueError("the interquartile mean of no values does not exist")
    cut = n // 4
    return np.asarray(ordered[..., cut : n - cut].mean(axis=-1))


def bootstrap_interval(
    values: ArrayLike,
    generator: np.random.Generator,
    statistic: Statistic = lambda resamples: resamples.mean(axis=-1),
    n_resamples: int = N_RESAMPLES,
) -> Interval:
    """95 % percentile bootstrap interval of a statistic of independent values, shape [n].

    One value gives an interval of no width: nothing is known about its spread.

    Raises:
        ValueError: for no values.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.size == 0:
        raise ValueError("an interval of no values does not exist")
    picks = generator.integers(0, sample.size, size=(n_resamples, sample.size))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(sample[picks]), [tail, 1 - tail])
    return Interval(float(low), float(high))


def summarise(returns: ArrayLike, generator: np.random.Generator) -> Summary:
    """Mean, standard deviation, IQM and interval of the mean of returns, shape [n]."""
    values = np.asarray(returns, dtype=np.float64)
    return Summary(
        n=int(values.size),
        mean=float(values.mean()),
        std=float(values.std()),
        iqm=float(interquartile_mean(values)),
        mean_interval=bootstrap_interval(values, generator),
    )


def paired_difference(
    returns: ArrayLike, baseline: ArrayLike, generator: np.random.Generator
) -> Difference:
    """Mean of returns − baseline, seed by seed, with its bootstrap interval; shapes [n].

    Raises:
        ValueError: if the two are not the same number of episodes.
    """
    ours, theirs = np.asarray(returns, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"pairs are needed, not {ours.size} returns and {theirs.size}")
    differences = ours - theirs
    return Difference(
        n=int(differences.size),
        mean=float(differences.mean()),
        interval=bootstrap_interval(differences, generator),
    )
