"""Seeds: constants for evaluation, and streams derived from the training seed for training.

The constants are the same for every run, so that any two policies can be compared episode by
episode. Training never uses them: it draws its seeds from `TRAINING_RANGE`, which excludes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gallop.errors import ExperimentError

EVALUATION_SEEDS: tuple[int, ...] = tuple(range(10_000, 10_010))
"""Ten seeds on which random, milestone, best and final policies are evaluated; only for that."""

VALIDATION_SEEDS: tuple[int, ...] = tuple(range(20_000, 21_000))
"""Seeds for evaluation during training, which selects the best policy; the first few are used."""

SEARCH_SEEDS: tuple[int, ...] = tuple(range(30_000, 31_000))
"""Seeds for evaluations in a hyper-parameter search."""

MAX_SEARCH_EPISODES = len(SEARCH_SEEDS) // 2
"""Most episodes per evaluation in a search: half of its seeds are for trials, half for
retraining."""

MAX_SEED = 2**32 - 1
"""Largest seed in a list of seeds."""

MAX_SEARCH_SEED = 10**9
_SEEDS_A_SEARCH, _SEEDS_A_ROUND, _FRESH = 10**6, 1_000, 500_000

TRAINING_RANGE = range(2**20, 2**31)
"""Seeds that training draws. SB3 seeds environment i with seed + i, which still fits 32 bits."""

_INITIALISATION, _SEGMENT = 0, 1  # spawn keys; adding one does not change the existing streams


def initialisation_seed(training_seed: int) -> int:
    """Seed for the initial weights of the networks."""
    return _draw(training_seed, _INITIALISATION)


def segment_seed(training_seed: int, segment: int) -> int:
    """Seed for all randomness in one segment: exploration, sampling, resets of environments.

    It depends only on its two arguments, so a resumed run draws the same numbers as an
    uninterrupted one.
    """
    return _draw(training_seed, _SEGMENT, segment)


def tuning_seeds(search_seed: int, round_number: int, n: int) -> list[int]:
    """Training seeds of one round of a search, the same for all its trials.

    Each search has its own million seeds, starting at one million, which people rarely use.

    >>> tuning_seeds(0, 1, 3)
    [1001000, 1001001, 1001002]
    """
    first = (search_seed + 1) * _SEEDS_A_SEARCH + round_number * _SEEDS_A_ROUND
    return [first + i for i in range(n)]


def fresh_seeds(search_seed: int, n: int) -> list[int]:
    """Training seeds for retraining the best trials of a search; no trial uses them.

    >>> fresh_seeds(0, 2)
    [1500000, 1500001]
    """
    first = (search_seed + 1) * _SEEDS_A_SEARCH + _FRESH
    return [first + i for i in range(n)]


def search_episodes(n: int, fresh: bool = False) -> list[int]:
    """Search seeds for evaluation episodes.

    Args:
        n: number of episodes.
        fresh: take them from the half for retraining instead of from the half for trials.
    """
    first = MAX_SEARCH_EPISODES if fresh else 0
    return list(SEARCH_SEEDS[first : first + n])


def families(training_seed: int, n_validation: int, n_segments: int) -> dict[str, object]:
    """The content of seeds.json.

    Args:
        training_seed: of the run.
        n_validation: number of validation seeds that the run uses.
        n_segments: number of segments of the run.
    """
    return {
        "evaluation_seeds": list(EVALUATION_SEEDS),
        "validation_seeds": list(VALIDATION_SEEDS[:n_validation]),
        "search_seeds": [SEARCH_SEEDS[0], SEARCH_SEEDS[-1]],
        "training_seed": training_seed,
        "initialisation_seed": initialisation_seed(training_seed),
        "segment_seeds": [segment_seed(training_seed, number) for number in range(n_segments)],
    }


def _draw(training_seed: int, *spawn_key: int) -> int:
    sequence = np.random.SeedSequence(training_seed, spawn_key=spawn_key)
    word = int(sequence.generate_state(1, np.uint64)[0])
    return TRAINING_RANGE.start + word % len(TRAINING_RANGE)


def seeds_from(text: str, at: str | None = None) -> list[int]:
    """Parse seeds as the command line gives them.

    >>> seeds_from("3,10..12")
    [3, 10, 11, 12]

    Args:
        text: the seeds.
        at: start of messages; default: `--seeds` with the text.

    Raises:
        ExperimentError: if the text is not a list of seeds and ranges.
    """
    at = f"--seeds {text}: " if at is None else at
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:\.\.(\d{1,10}))?\s*", part)
        if match is None:
            raise ExperimentError(f"{at}expected seeds such as 3,10..12")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 100_000 or last > MAX_SEED:
            raise ExperimentError(f"{at}{part.strip()} is not a valid range of seeds")
        found += range(first, last + 1)
    if len(set(found)) != len(found):
        raise ExperimentError(f"{at}a seed appears twice")
    return found


def spans(seeds: Sequence[int] | NDArray[np.int64]) -> str:
    """Seeds as short text.

    >>> spans([3, 10, 11, 12])
    '3, 10..12'
    """
    parts: list[list[int]] = []
    for seed in map(int, seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1][1:] = [seed]
        else:
            parts.append([seed])
    return ", ".join("..".join(map(str, part)) for part in parts)
