"""The expected duration of a run: its plan, times what each part takes on this machine."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gallop.algorithms.spec import Cost
from gallop.experiments import seeding
from gallop.experiments.task import UNLIMITED_EPISODE_TIMESTEPS
from gallop.machine import available_processors
from gallop.report.measured_speed import Speed
from gallop.report.progress_line import duration
from gallop.run_folder.prepared import PreparedRun

# Seconds on one core of a server of 2026.
CURVES = 0.35  # both learning curves, drawn after each evaluation
MILESTONE_FIGURES = 0.3
START = 3.0  # of a process that trains one trial
SAVING = 0.1  # of a segment's end: the learner, and the new rows of the replay buffer
WORKER_MESSAGE = 5e-5  # to and from a worker process, of each environment each timestep

BUSY = 1.5  # slower than alone by this factor: a plan then gives both durations


class Expected(NamedTuple):
    """The expected duration of a run, in seconds of wall-clock time."""

    training: float
    evaluations: float
    rest: float
    """Figures, saving, and rebuilding environments for each segment."""
    note: str
    """Where the numbers come from, and what they leave out."""
    busy: float = 1.0
    """Factor by which it takes longer while the processors are as busy as now."""

    @property
    def seconds(self) -> float:
        """The total; it includes the slowdown by other programs unless that is large."""
        alone = self.training + self.evaluations + self.rest
        return alone if self.is_busy else alone * self.busy

    @property
    def is_busy(self) -> bool:
        """Whether other programs slow this machine down so much that it is worth mentioning."""
        return self.busy > BUSY

    def of_runs(self, left: Sequence[float], n_workers: int) -> str:
        """Return ", about 2 h 10 min in all" for several such runs, or "… left" for the rest of
        them; empty for one whole run, and for none.

        Args:
            left: the share of its timesteps that each run has yet to train, between 0 and 1.
            n_workers: runs in parallel, at least 1.
        """
        seconds = side_by_side([self.seconds * share for share in left], n_workers)
        are_whole = all(share == 1.0 for share in left)
        if not left or (are_whole and len(left) == 1):
            return ""
        return f", about {duration(seconds)} {'in all' if are_whole else 'left'}"

    def __str__(self) -> str:
        """Return text for a plan."""
        text = f"about {duration(self.seconds)} on this machine"
        if self.is_busy:
            now = duration(self.seconds * self.busy)
            text += f", {now} while it is as busy as now"
        share = (self.evaluations + self.rest) / max(self.seconds, 1e-9)
        if share > 0.1 and self.seconds >= 10:
            others = duration(share * self.seconds)
            text += f"; {others} of it for evaluations and figures"
        return f"{text} ({self.note})"


def side_by_side(seconds: Iterable[float], n_workers: int) -> float:
    """Return how long runs take if each starts, in this order, as soon as a worker is free.

    >>> side_by_side([4.0, 1.0, 1.0, 3.0], n_workers=2)
    5.0

    Args:
        seconds: what each run takes.
        n_workers: runs in parallel, at least 1.
    """
    free_at = [0.0] * n_workers
    for each in seconds:
        heapq.heapreplace(free_at, free_at[0] + each)
    return max(free_at)


def expected_time(
    prepared: PreparedRun, speed: Speed | None, done: int = 0, is_trial: bool = False
) -> Expected:
    """Add up what the parts of a run take on this machine.

    Args:
        prepared: the run.
        speed: from `measure`; None if it could not be measured.
        done: timesteps that the run has already trained.
        is_trial: whether it is a trial of a search, which needs a new process, and has no
            milestones and figures.
    """
    if speed is None or speed.env_step is None:
        return _rough(prepared, done)
    experiment, (timestep, gradient_step, note) = prepared.experiment, _costs(prepared, speed)
    n_timesteps, n_gradient_steps = _left(prepared, done)
    length = min(prepared.cut_after, prepared.time_limit or UNLIMITED_EPISODE_TIMESTEPS)
    boundaries = [b for b in prepared.plan.boundaries if b.timestep > done]
    n_evaluations = sum(b.evaluates for b in boundaries)
    n_marks = 0 if is_trial else sum(b.milestone is not None for b in boundaries)
    # Played on the evaluation seeds: milestones, the random policy, the best and the final one.
    n_judged = 0 if is_trial else n_marks + 2 + (not done)
    n_episodes = n_evaluations * experiment.evaluation.n_episodes
    n_episodes += n_judged * len(seeding.EVALUATION_SEEDS)
    make, act = speed.make or 0.0, speed.act or 0.0
    evaluations = n_episodes * (make + length * speed.env_step)
    evaluations += (n_evaluations + n_judged) * length * act
    rest = len(boundaries) * (SAVING + experiment.n_envs * make) + n_marks * MILESTONE_FIGURES
    rest += START if is_trial else n_evaluations * CURVES
    if prepared.time_limit is None:
        note += f"; episodes of {length:,} timesteps assumed"
    if experiment.films and n_marks:
        note += "; films not counted"
    training = n_timesteps * timestep + n_gradient_steps * gradient_step
    return Expected(training, evaluations, rest, note, speed.busy)


def _left(prepared: PreparedRun, done: int) -> tuple[int, int]:
    """Return the remaining timesteps and gradient steps."""
    experiment, plan = prepared.experiment, prepared.plan
    before = experiment.hyperparameters.n_gradient_steps(done, experiment.n_envs) if done else 0
    return max(0, plan.horizon - done), max(0, plan.n_gradient_steps - before)


def _rough(prepared: PreparedRun, done: int) -> Expected:
    """Estimate from typical costs, which depend neither on this machine nor on this task."""
    cost, (n_timesteps, n_gradient_steps) = _table_of_costs(prepared), _left(prepared, done)
    training = n_timesteps * cost.timestep + n_gradient_steps * _rough_gradient_step(prepared)
    note = "rough: could not be measured here; evaluations and films not counted"
    return Expected(training, 0.0, 0.0, note)


def _table_of_costs(prepared: PreparedRun) -> Cost:
    spec = prepared.experiment.algorithm
    native = spec.native_cost if prepared.choice.name == "native" else None
    return native or spec.sb3_cost


def _rough_gradient_step(prepared: PreparedRun) -> float:
    cost = _table_of_costs(prepared)
    return cost.gradient_step + cost.row * prepared.experiment.hyperparameters.batch_size


def _costs(prepared: PreparedRun, speed: Speed) -> tuple[float, float, str]:
    """Return seconds per timestep and per gradient step, and a note about them."""
    experiment, env_step = prepared.experiment, speed.env_step or 0.0
    measured = speed.timestep is not None
    timestep = speed.timestep or env_step + _table_of_costs(prepared).timestep
    note = ""
    if experiment.vec_env == "subproc":
        side_by_side = min(experiment.n_envs, available_processors())
        timestep += WORKER_MESSAGE - env_step * (1 - 1 / side_by_side)
        note = "; worker processes estimated"
    gradient_step = speed.gradient_step or _rough_gradient_step(prepared)
    if measured:
        told = f"measured: timestep {_short(timestep)}, gradient step {_short(gradient_step)}"
    else:
        told = (
            f"measured: environment step {_short(env_step)}; gradient steps are a rough guess, as "
            "they were too slow to measure"
        )
    return timestep, gradient_step, told + note


def _short(seconds: float) -> str:
    """Return a short duration as text.

    >>> _short(62.4e-6), _short(0.0031), _short(0.25), _short(1.23)
    ('62 µs', '3.1 ms', '250 ms', '1.2 s')
    """
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= size:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.2g} {unit}"
    return f"{seconds * 1e6:.0f} µs"
