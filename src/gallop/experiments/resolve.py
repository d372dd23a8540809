"""Defaults that depend on other settings, and checks that the settings fit each other."""

from __future__ import annotations

import math
from typing import Any

from gallop.algorithms.hyperparameters import NetArch
from gallop.errors import ExperimentError
from gallop.experiments.settings import Experiment
from gallop.experiments.task import UNLIMITED_EPISODE_TIMESTEPS, task_spec
from gallop.fields import MAX_TIMESTEPS

EPISODES_PER_SEGMENT = 10  # full episodes of each environment in the default segment


def resolve(experiment: Experiment) -> Experiment:
    """Fill in the defaults that depend on other settings, and check that all settings fit.

    Raises:
        ExperimentError: if two settings do not fit each other, with the nearest values that do.
    """
    if experiment.total_timesteps > MAX_TIMESTEPS:
        raise ExperimentError(
            f"{experiment.total_timesteps:,}: must be at most {MAX_TIMESTEPS:,}", "total_timesteps"
        )
    quantum = experiment.hyperparameters.quantum(experiment.n_envs)
    limit = task_spec(experiment.env).max_episode_steps or UNLIMITED_EPISODE_TIMESTEPS
    limit = experiment.env_kwargs.get("max_episode_steps", limit)
    if not isinstance(limit, int) or limit < 1:
        raise ExperimentError(
            f"{limit!r}: must be a whole number of at least 1", "env_kwargs.max_episode_steps"
        )
    episode = limit * experiment.n_envs
    # On-policy algorithms round boundaries up to whole rollouts; the others need exact ones.
    on_policy = experiment.algorithm.on_policy
    grid = 1 if on_policy else quantum
    _check_networks(experiment)
    experiment.hyperparameters.utd_ratio(
        experiment.n_envs
    )  # raises if it gives no whole number of gradient steps
    _check_total(experiment, grid, max(episode, quantum))
    marks = milestone_timesteps(experiment)
    gap = math.gcd(*marks)
    interval = experiment.evaluation.interval
    if interval is None:
        floor = max(episode, quantum)
        tenths = [gap // n for n in (10, 5, 4, 2) if gap % n == 0 and gap // n >= floor]
        interval = next((part for part in tenths if part % grid == 0), gap)
    _check_divides(interval, gap, grid, "evaluation.interval", f"the milestones {_list(marks)}")
    segment = experiment.segment
    if segment is None:
        wanted = max(EPISODES_PER_SEGMENT * episode, quantum)
        parts = [part for part in _divisors(interval) if part % grid == 0 and part >= wanted]
        segment = min(parts, default=interval)
    _check_divides(segment, interval, grid, "segment", f"evaluation.interval {interval}")
    if segment < max(episode, quantum):
        least = "one full episode of each environment" if episode >= quantum else "one rollout"
        raise ExperimentError(
            f"{segment} timesteps are less than {least}, {max(episode, quantum)} timesteps; "
            "use at least that, and make evaluation.interval a multiple of it",
            "segment" if experiment.segment else "evaluation.interval",
        )
    return experiment.model_copy(
        update={
            "segment": segment,
            "evaluation": experiment.evaluation.model_copy(update={"interval": interval}),
            "log_interval": experiment.log_interval or (1 if on_policy else 4),
        }
    )


def _check_networks(experiment: Experiment) -> None:
    arch = experiment.hyperparameters.policy_kwargs.net_arch
    if not isinstance(arch, NetArch):
        return
    spec = experiment.algorithm
    if not spec.fits(arch):
        raise ExperimentError(
            f"{spec.name} requires the keys pi and {spec.critic_key}",
            "hyperparameters.policy_kwargs.net_arch",
        )


def milestone_timesteps(experiment: Experiment) -> list[int]:
    """Timesteps of the milestones, before PPO rounds them up to whole rollouts."""
    return [experiment.total_timesteps * percent // 100 for percent in experiment.milestones]


def _check_total(experiment: Experiment, grid: int, least: int) -> None:
    """Milestones must be whole numbers of timesteps, multiples of `grid`, `least` apart."""
    total, percentages = experiment.total_timesteps, experiment.milestones
    whole = 100 // math.gcd(100, *percentages)  # its multiples give whole numbers
    # The greatest common divisor of the milestones of that total.
    step = math.gcd(*percentages) * whole // 100
    unit = whole * (grid // math.gcd(grid, step))
    if total % unit:
        nearby = [value for value in (total // unit * unit, (total // unit + 1) * unit) if value]
        on_grid = f" into multiples of train_freq × n_envs = {grid}" if grid > 1 else ""
        raise ExperimentError(
            f"{total} cannot be split at {_list(percentages)} %{on_grid}; the nearest totals that "
            f"can are {_list(nearby)}",
            "total_timesteps",
        )
    gap = math.gcd(*milestone_timesteps(experiment))
    if gap < least:
        needed = math.ceil(least * total / gap / unit) * unit
        raise ExperimentError(
            f"{total} leaves {gap} timesteps between milestones, less than one full episode of "
            f"each environment (PPO: one rollout), {least}; use at least {needed}",
            "total_timesteps",
        )


def _check_divides(part: int, whole: int, grid: int, field: str, of: str) -> None:
    if whole % part == 0 and part % grid == 0:
        return
    fitting = [value for value in _divisors(whole) if value % grid == 0]
    below = max((value for value in fitting if value < part), default=None)
    above = min((value for value in fitting if value > part), default=None)
    offers = [value for value in (below, above) if value is not None]
    needs = f"must divide {of}" + (f" and be a multiple of {grid}" if grid > 1 else "")
    hint = f"nearest that do: {_list(offers)}" if offers else f"none does: change {of.split()[-1]}"
    raise ExperimentError(f"{part} {needs}; {hint}", field)


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def _list(values: Any) -> str:
    return ", ".join(str(value) for value in values)
