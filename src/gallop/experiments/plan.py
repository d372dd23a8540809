"""The plan: what a run of an experiment will do, and what it will cost, before it does it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from gallop.experiments.resolve import milestone_timesteps
from gallop.experiments.settings import Experiment


class Boundary(NamedTuple):
    """The end of a segment: where a run can be resumed and judged."""

    segment: int
    """Number of the segment that ends here, from 0."""
    timestep: int
    """Timestep actually reached, over all environments."""
    nominal: int
    """Timestep asked for; PPO rounds it up to a rollout."""
    evaluates: bool
    milestone: int | None
    """Percentage, if this is a milestone."""


class Plan(NamedTuple):
    """What a run will do, before it does it."""

    boundaries: tuple[Boundary, ...]
    n_gradient_steps: int
    utd_ratio: float
    disk_bytes: int
    """Upper estimate of the run folder's size."""
    expected_seconds: float
    """Rough: from figures measured on two server cores of 2026, never on this machine."""

    @property
    def horizon(self) -> int:
        """The last timestep; schedules end here."""
        return self.boundaries[-1].timestep


# Seconds that a gradient step takes with networks 256×256 (PPO: 64×64), fixed and for each row of a
# batch, and a timestep beside it. Of SB3 only SAC with batch 128 was measured by us (76 to 103 SPS
# on one core of an AMD EPYC, benchmarks/sps_against_sb3.csv); its rest is guessed from figures of
# other machines. Of the native learner see benchmarks/native_against_peers.csv (the same machine).
_SECONDS = {
    "sb3": {
        "sac": (0.0062, 3.2e-5, 0.0009),
        "td3": (0.0052, 2.6e-5, 0.0009),
        "ppo": (0.0016, 2e-6, 0.0009),
    },
    "native": {
        "sac": (0.0, 1.2e-5, 0.00025),
        "td3": (0.0, 0.9e-5, 0.00025),
        "ppo": (0.0, 1e-6, 0.00025),
    },
}
_MILESTONE_BYTES = 12_000_000  # films, figures and policy file of a milestone, HalfCheetah
_STATE_BYTES = 2 * 10_000_000  # two boundaries of parameters and Adam's moments, 256×256


def make_plan(
    experiment: Experiment, transition_bytes: int = 0, learner: Literal["native", "sb3"] = "sb3"
) -> Plan:
    """The plan of a resolved experiment.

    Args:
        transition_bytes: bytes of one stored transition (0 without a replay buffer).
        learner: whose speed is expected.
    """
    hyperparameters = experiment.hyperparameters
    quantum = hyperparameters.quantum(experiment.n_envs)
    segment, interval = experiment.segment, experiment.evaluation.interval
    assert segment and interval, "resolve() has filled these in"
    marks = dict(zip(milestone_timesteps(experiment), experiment.milestones, strict=True))
    boundaries = tuple(
        Boundary(
            segment=number,
            timestep=math.ceil(nominal / quantum) * quantum,
            nominal=nominal,
            evaluates=nominal % interval == 0,
            milestone=marks.get(nominal),
        )
        for number, nominal in enumerate(range(segment, experiment.total_timesteps + 1, segment))
    )
    reached = boundaries[-1].timestep
    n_gradient_steps = hyperparameters.n_gradient_steps(reached, experiment.n_envs)
    stored = min(reached, getattr(hyperparameters, "buffer_size", 0) + segment)
    fixed, a_row, a_timestep = _SECONDS[learner][experiment.algo]
    a_gradient_step = fixed + a_row * hyperparameters.batch_size
    return Plan(
        boundaries=boundaries,
        n_gradient_steps=n_gradient_steps,
        utd_ratio=hyperparameters.utd_ratio(experiment.n_envs),
        disk_bytes=stored * transition_bytes + len(marks) * _MILESTONE_BYTES + _STATE_BYTES,
        expected_seconds=n_gradient_steps * a_gradient_step + reached * a_timestep,
    )
