"""Defaults that depend on other settings, and checks that the settings fit each other."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from gallop.algorithms.hyperparameters import NetArch
from gallop.errors import ExperimentError, PlanError, counted
from gallop.experiments.settings import Experiment
from gallop.experiments.task import UNLIMITED_EPISODE_TIMESTEPS, task_spec
from gallop.fields import MAX_TIMESTEPS

EPISODES_PER_SEGMENT = 10  # full episodes of each environment in the default segment


def resolve(experiment: Experiment) -> Experiment:
    """Fill in the defaults that depend on other settings, and check that all settings fit.

    Raises:
        ExperimentError: if two settings do not fit each other, with the nearest values that do; a
            `PlanError` if these are the total, milestones, evaluation interval and segment.
    """
    if experiment.total_timesteps > MAX_TIMESTEPS:
        raise ExperimentError(
            f"{experiment.total_timesteps:,}: must be at most {MAX_TIMESTEPS:,}", "total_timesteps"
        )
    experiment = _with_rescaled_actions(experiment)
    rules = _rules(experiment)
    _check_networks(experiment)
    # Raises if it gives no whole number of gradient steps.
    experiment.hyperparameters.utd_ratio(experiment.n_envs)
    _check_hindsight(experiment, rules)
    try:
        segment, interval = _segment_and_interval(experiment, rules)
    except ExperimentError as error:
        raise PlanError(error.message, error.field, experiment) from None
    return experiment.model_copy(
        update={
            "segment": segment,
            "evaluation": experiment.evaluation.model_copy(update={"interval": interval}),
            "log_interval": experiment.log_interval or (1 if experiment.algorithm.on_policy else 4),
        }
    )


RESCALE = {"gymnasium.wrappers:RescaleAction": {"min_action": -1.0, "max_action": 1.0}}


def _with_rescaled_actions(experiment: Experiment) -> Experiment:
    """Return the experiment with the wrapper that `rescale_actions` stands for."""
    if not experiment.rescale_actions or RESCALE in experiment.wrappers:
        return experiment
    return experiment.model_copy(update={"wrappers": (*experiment.wrappers, RESCALE)})


class _Rules(NamedTuple):
    """What segments, intervals and milestones must keep to."""

    grid: int
    """Divides them all."""
    episode: int
    """Timesteps of one full episode of each environment."""
    quantum: int
    """The update interval; for PPO, one rollout."""
    on_policy: bool
    has_limit: bool
    """Whether the task declares a time limit."""

    @property
    def least(self) -> int:
        """Timesteps that each must have."""
        return max(self.episode, self.quantum)

    @property
    def least_is(self) -> str:
        """What these timesteps are."""
        if self.episode >= self.quantum:
            return "one full episode of each environment"
        return "one rollout" if self.on_policy else "one update interval (train_freq × n_envs)"


def _rules(experiment: Experiment) -> _Rules:
    limit = task_spec(experiment.env).max_episode_steps
    limit = experiment.env_kwargs.get("max_episode_steps", limit)
    has_limit = limit is not None
    limit = UNLIMITED_EPISODE_TIMESTEPS if limit is None else limit
    if not isinstance(limit, int) or limit < 1:
        raise ExperimentError(
            f"{limit!r}: must be a whole number of at least 1", "env_kwargs.max_episode_steps"
        )
    quantum = experiment.hyperparameters.quantum(experiment.n_envs)
    on_policy = experiment.algorithm.on_policy
    # On-policy algorithms round boundaries up to whole rollouts; the others need exact ones.
    grid = 1 if on_policy else quantum
    return _Rules(grid, limit * experiment.n_envs, quantum, on_policy, has_limit)


def _segment_and_interval(experiment: Experiment, rules: _Rules) -> tuple[int, int]:
    grid = rules.grid
    _check_total(experiment, rules)
    marks = milestone_timesteps(experiment)
    gap = math.gcd(*marks)
    interval = experiment.evaluation.interval
    if interval is None:
        tenths = [gap // n for n in (10, 5, 4, 2) if gap % n == 0 and gap // n >= rules.least]
        interval = next((part for part in tenths if part % grid == 0), gap)
    _check_divides(interval, gap, grid, "evaluation.interval", f"the milestones {_list(marks)}")
    segment = experiment.segment
    if segment is None:
        wanted = max(EPISODES_PER_SEGMENT * rules.episode, rules.quantum)
        parts = [part for part in _divisors(interval) if part % grid == 0 and part >= wanted]
        segment = min(parts, default=interval)
    _check_divides(segment, interval, grid, "segment", f"evaluation.interval {interval}")
    if segment < rules.least:
        raise ExperimentError(
            f"{segment} timesteps are less than {rules.least_is}, {rules.least} timesteps; "
            "use at least that, and make evaluation.interval a multiple of it",
            "segment" if experiment.segment else "evaluation.interval",
        )
    return segment, interval


def shorter_intervals(experiment: Experiment) -> list[int]:
    """Evaluation intervals shorter than that of a resolved experiment, ascending.

    A new run with one of them and the default segment is possible.
    """
    rules, interval = _rules(experiment), experiment.evaluation.interval
    assert interval, "resolve() sets it"
    gap = math.gcd(*milestone_timesteps(experiment))
    return [n for n in _divisors(gap) if rules.least <= n < interval and n % rules.grid == 0]


def check_extension(before: Experiment, longer: Experiment) -> None:
    """Check that a longer run fits the segment of the finished one.

    Args:
        before: the resolved experiment of the finished run.
        longer: that of the longer run, not yet resolved.

    Raises:
        ExperimentError: if it does not, with the nearest totals or intervals that do.
    """
    total, interval, segment = longer.total_timesteps, longer.evaluation.interval, before.segment
    assert segment, "resolve() sets it"
    if interval is None:
        return
    if interval % segment:
        below = interval // segment * segment
        nearby = [value for value in (below, below + segment) if value]
        raise ExperimentError(
            f"{interval} must be a multiple of the segment of the finished run, {segment}; "
            f"nearest: {_list(nearby)}",
            "evaluation.interval",
        )
    # The milestones are multiples of the interval if their greatest common divisor is.
    unit = interval * (100 // math.gcd(*longer.milestones))
    if total % unit == 0:
        return
    below = total // unit * unit
    fitting = [value for value in (below, below + unit) if value > before.total_timesteps]
    alone = "" if unit == interval else f"; --milestones [100] allows any multiple of {interval}"
    raise ExperimentError(
        f"{total} does not put the milestones ({_list(longer.milestones)} %) at multiples of "
        f"evaluation.interval, {interval}; nearest total{'s' * (len(fitting) > 1)} that "
        f"{'fit' if len(fitting) > 1 else 'fits'}: {_list(fitting)}{alone}",
        "total_timesteps",
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


def _check_hindsight(experiment: Experiment, rules: _Rules) -> None:
    """HER learns from whole episodes: learning must not begin before the first has ended."""
    settings: Any = experiment.hyperparameters
    if getattr(settings, "replay_buffer", "") != "her" or not rules.has_limit:
        return  # of a task that declares no limit, the learner finds out
    if settings.learning_starts < rules.episode:
        raise ExperimentError(
            f"{settings.learning_starts}: her learns from whole episodes, the first of which may "
            f"take {counted(rules.episode, 'timestep')}; use at least that",
            "hyperparameters.learning_starts",
        )


def milestone_timesteps(experiment: Experiment) -> list[int]:
    """Timesteps of the milestones, before PPO rounds them up to whole rollouts."""
    return [experiment.total_timesteps * percent // 100 for percent in experiment.milestones]


def _check_total(experiment: Experiment, rules: _Rules) -> None:
    """Milestones must be whole numbers of timesteps, multiples of the grid, far enough apart."""
    grid, least = rules.grid, rules.least
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
        leaves = "is" if gap == total else f"leaves {gap} timesteps between milestones,"
        fewer = ""
        if gap < total:
            alone = math.ceil(least / grid) * grid  # the least total with one milestone
            fewer = ", or fewer milestones, such as --milestones [100]"
            fewer += f" with at least {alone}" if total < alone else ""
        raise ExperimentError(
            f"{total} {leaves} less than {rules.least_is}, {least} timesteps; use at least "
            f"{needed}{fewer}",
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
