"""The plan: what a run of an experiment will do, and what it will cost, before it does it."""

from __future__ import annotations

import math
from typing import NamedTuple

from gallop.experiment import Experiment, milestone_timesteps


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


# Seconds a gradient step of SB3 takes with networks 256×256 on one core, and a timestep beside it.
# Only SAC with batch 128 was measured by us (76 to 103 SPS on one core of an AMD EPYC, see
# benchmarks/sps_against_sb3.csv); the rest is guessed from figures of other machines.
_GRADIENT_STEP_SECONDS = {"sac": 0.0062, "td3": 0.0052, "ppo": 0.0016}
_SECONDS_PER_BATCH_ROW = {"sac": 3.2e-5, "td3": 2.6e-5, "ppo": 2e-6}
_TIMESTEP_SECONDS = 0.0009
_MILESTONE_BYTES = 12_000_000  # films, figures and policy file of a milestone, HalfCheetah
_STATE_BYTES = 2 * 10_000_000  # two boundaries of parameters and Adam's moments, 256×256


def make_plan(experiment: Experiment, transition_bytes: int) -> Plan:
    """The plan of a resolved experiment.

    Args:
        transition_bytes: bytes of one stored transition (0 without a replay buffer).
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
    gradient_step = (
        _GRADIENT_STEP_SECONDS[experiment.algo]
        + _SECONDS_PER_BATCH_ROW[experiment.algo] * hyperparameters.batch_size
    )
    return Plan(
        boundaries=boundaries,
        n_gradient_steps=n_gradient_steps,
        utd_ratio=hyperparameters.utd_ratio(experiment.n_envs),
        disk_bytes=stored * transition_bytes + len(marks) * _MILESTONE_BYTES + _STATE_BYTES,
        expected_seconds=n_gradient_steps * gradient_step + reached * _TIMESTEP_SECONDS,
    )
