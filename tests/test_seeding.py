"""Families of seeds are disjoint, and streams depend only on (training seed, segment)."""

from itertools import pairwise

from gallop.experiments import seeding


def test_the_seeds_for_evaluation_are_disjoint_and_outside_the_training_range():
    families = [seeding.EVALUATION_SEEDS, seeding.VALIDATION_SEEDS, seeding.SEARCH_SEEDS]
    together = [seed for family in families for seed in family]
    assert len(set(together)) == len(together)
    assert not any(seed in seeding.TRAINING_RANGE for seed in together)
    assert len(seeding.EVALUATION_SEEDS) == 10


def test_the_constant_seeds_never_change():
    # Results of different versions are paired by these seeds.
    assert tuple(range(10_000, 10_010)) == seeding.EVALUATION_SEEDS
    assert seeding.VALIDATION_SEEDS[:5] == (20_000, 20_001, 20_002, 20_003, 20_004)
    assert seeding.segment_seed(0, 0) == 787681021
    assert seeding.initialisation_seed(0) == 968340497


def test_training_streams_differ_by_seed_and_segment_and_stay_in_their_range():
    drawn = {
        seeding.segment_seed(training_seed, segment)
        for training_seed in range(30)
        for segment in range(30)
    } | {seeding.initialisation_seed(training_seed) for training_seed in range(30)}
    assert len(drawn) == 30 * 30 + 30
    assert all(seed in seeding.TRAINING_RANGE for seed in drawn)
    # SB3 seeds environment i with seed + i, which must be below 2**32 for NumPy.
    assert seeding.TRAINING_RANGE.stop + 4096 < 2**32


def searches():
    """Search seeds: the first thousand, those around powers of ten, and the largest."""
    around = [10**n + d for n in range(4, 9) for d in (-1, 0, 1)]
    return [*range(1000), *around, seeding.MAX_SEARCH_SEED - 1]


def test_trials_and_retraining_of_all_searches_have_separate_seeds():
    # 20 rounds of 100 seeds, and 1,000 fresh ones: as many as a search may ask for.
    families = []
    for seed in searches():
        families += [
            range(first, first + len(family))
            for family in (
                *(seeding.tuning_seeds(seed, number, 100) for number in range(20)),
                seeding.fresh_seeds(seed, 1000),
            )
            for first in family[:1]
            if family == list(range(first, first + len(family)))
        ]
    assert len(families) == len(searches()) * 21  # each is a range without gaps
    ordered = sorted(families, key=lambda family: family.start)
    for before, after in pairwise(ordered):
        assert before.stop <= after.start
    # And disjoint from all others: evaluation seeds are below 31,000, and users count from 0.
    judging = [*seeding.EVALUATION_SEEDS, *seeding.VALIDATION_SEEDS, *seeding.SEARCH_SEEDS]
    assert ordered[0].start >= 1_000_000 > max(judging)
    assert ordered[-1].stop < 2**63  # the limit of training_seed


def test_a_trials_seeds_depend_only_on_search_and_round():
    assert seeding.tuning_seeds(0, 0, 2) == [1_000_000, 1_000_001]
    assert seeding.tuning_seeds(4, 1, 3)[:2] == seeding.tuning_seeds(4, 1, 2)
    assert seeding.tuning_seeds(4, 1, 1) == [5_001_000]
    assert seeding.fresh_seeds(4, 1) == [5_500_000]


def test_retraining_is_evaluated_on_episodes_that_no_trial_used():
    most = seeding.MAX_SEARCH_EPISODES
    trials, fresh = seeding.search_episodes(most), seeding.search_episodes(most, fresh=True)
    assert len(trials) == len(fresh) == most == 500
    assert not set(trials) & set(fresh)
    assert set(trials) | set(fresh) <= set(seeding.SEARCH_SEEDS)
    assert seeding.search_episodes(2) == [30_000, 30_001]
    assert seeding.search_episodes(2, fresh=True) == [30_500, 30_501]
