"""Families of seeds: constants for judging, streams derived from the training seed for training.

The constants are the same for every run, so that any two policies can be compared episode by
episode. Training never uses them: its streams give seeds from `TRAINING_RANGE`, which holds none.
"""

from __future__ import annotations

import numpy as np

EVALUATION_SEEDS: tuple[int, ...] = tuple(range(10_000, 10_010))
"""Ten seeds that score random, milestone, best and final policies; used for nothing else."""

VALIDATION_SEEDS: tuple[int, ...] = tuple(range(20_000, 21_000))
"""Evaluation during training and the choice of the best policy take the first few."""

SEARCH_SEEDS: tuple[int, ...] = tuple(range(30_000, 31_000))
"""Evaluations inside a hyper-parameter search."""

TRAINING_RANGE = range(2**20, 2**31)
"""Seeds that training draws. SB3 seeds environment i with seed + i, which 32 bits still hold."""

_INITIALISATION, _SEGMENT = 0, 1  # spawn keys; appending new ones leaves the streams as they are


def initialisation_seed(training_seed: int) -> int:
    """Seed of the networks' first weights."""
    return _draw(training_seed, _INITIALISATION)


def segment_seed(training_seed: int, segment: int) -> int:
    """Seed of everything random in one segment: exploration, sampling, resets of the environments.

    A function of its two arguments alone, so a resumed run draws what an uninterrupted one draws.
    """
    return _draw(training_seed, _SEGMENT, segment)


def families(training_seed: int, n_validation: int, n_segments: int) -> dict[str, object]:
    """What seeds.json holds."""
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
