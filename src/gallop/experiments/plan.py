"""The plan of a run: its segments, evaluations and milestones, and the disk space it needs."""

from __future__ import annotations

import math
from typing import NamedTuple

from gallop.experiments.resolve import milestone_timesteps, shorter_intervals
from gallop.experiments.settings import Experiment


class Boundary(NamedTuple):
    """The end of a segment, where a run can be resumed and evaluated."""

    segment: int
    """Number of the segment that ends here, from 0."""
    timestep: int
    """Timestep that is reached, over all environments."""
    nominal: int
    """Requested timestep; PPO rounds it up to a whole rollout."""
    evaluates: bool
    """Whether there is an evaluation."""
    milestone: int | None
    """Percentage of a milestone; None if there is none."""


class Plan(NamedTuple):
    """What a run will do, and what it will cost."""

    boundaries: tuple[Boundary, ...]
    """The ends of all segments, in order."""
    n_gradient_steps: int
    """Gradient steps in total."""
    utd_ratio: float
    """Gradient steps per timestep."""
    disk_bytes: int
    """Upper estimate of the size of the run folder."""
    boundary_bytes: int
    """Estimate of what one boundary writes: the learner, and a segment of the replay buffer."""

    @property
    def horizon(self) -> int:
        """The last timestep, where schedules end."""
        return self.boundaries[-1].timestep


_MILESTONE_BYTES = 12_000_000  # films, figures and policy file of a milestone on HalfCheetah
_LEARNER_BYTES = 10_000_000  # parameters and Adam's moments, 256×256


def last_timestep(experiment: Experiment) -> int:
    """The last timestep of a resolved experiment, computed without its plan."""
    assert experiment.segment, "resolve() sets it"
    nominal = experiment.total_timesteps // experiment.segment * experiment.segment
    quantum = experiment.hyperparameters.quantum(experiment.n_envs)
    return math.ceil(nominal / quantum) * quantum


def interval_for_slope(experiment: Experiment) -> int | None:
    """Find a shorter evaluation interval, for three evaluations in the last quarter of training.

    Args:
        experiment: a resolved experiment.

    Returns:
        The longest such interval; None if the experiment plans enough evaluations, or a run of this
        length cannot have them.
    """

    def is_enough(plan: Plan) -> bool:
        return sum(b.evaluates and b.timestep > 0.75 * plan.horizon for b in plan.boundaries) >= 3

    if is_enough(make_plan(experiment)):  # some returns were not finite
        return None
    for interval in reversed(shorter_intervals(experiment)):
        evaluation = experiment.evaluation.model_copy(update={"interval": interval})
        update = {"segment": interval, "evaluation": evaluation}
        if is_enough(make_plan(experiment.model_copy(update=update))):
            return interval
    return None


def make_plan(experiment: Experiment, transition_bytes: int = 0) -> Plan:
    """Make the plan of a resolved experiment.

    Args:
        experiment: a resolved experiment.
        transition_bytes: size of a stored transition; 0 without a replay buffer.
    """
    hyperparameters = experiment.hyperparameters
    quantum = hyperparameters.quantum(experiment.n_envs)
    segment, interval = experiment.segment, experiment.evaluation.interval
    assert segment and interval, "resolve() sets them"
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
    return Plan(
        boundaries=boundaries,
        n_gradient_steps=n_gradient_steps,
        utd_ratio=hyperparameters.utd_ratio(experiment.n_envs),
        disk_bytes=stored * transition_bytes
        + len(marks) * _MILESTONE_BYTES
        + (2 + len(marks) + 1)
        * _LEARNER_BYTES,  # the last two states, the milestones, the best policy
        boundary_bytes=segment * transition_bytes + _LEARNER_BYTES,
    )
