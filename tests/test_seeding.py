"""Families of seeds are disjoint, and streams depend on (training seed, segment) alone."""

from gallop import seeding


def test_the_families_of_judging_are_disjoint_and_outside_the_training_range():
    families = [seeding.EVALUATION_SEEDS, seeding.VALIDATION_SEEDS, seeding.SEARCH_SEEDS]
    together = [seed for family in families for seed in family]
    assert len(set(together)) == len(together)
    assert not any(seed in seeding.TRAINING_RANGE for seed in together)
    assert len(seeding.EVALUATION_SEEDS) == 10


def test_the_constants_never_change():
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
    # SB3 seeds environment i with seed + i, which NumPy wants below 2**32.
    assert seeding.TRAINING_RANGE.stop + 4096 < 2**32
