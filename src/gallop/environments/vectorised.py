"""Vectorised environments for training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from gallop.environments.make import make_env
from gallop.environments.spaces import Action, Env, Observation
from gallop.environments.task_errors import NOTES, failure, say_once
from gallop.errors import ExperimentError, TaskError
from gallop.experiments.settings import Experiment

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


def training_environments(
    experiment: Experiment, n_threads: int = 1, seed_resets: bool = False
) -> VecEnv:
    """Make the experiment's `n_envs` environments as an SB3 `VecEnv`, here or in worker processes.

    They last as long as the run. Each segment starts with `rebuild`, which replaces the simulators
    inside them; worker processes are slow to start, and are kept.

    Args:
        experiment: a resolved experiment.
        n_threads: threads of the learner. On-policy learners do not use them while environments
            step, so that the physics can; see `PhysicsVecEnv`.
        seed_resets: give every reset a seed, for tasks that otherwise draw from a source of
            randomness that no seed reaches.

    Raises:
        ExperimentError, TaskError: if the task cannot be made.
        WorkerError: if a worker process ends before its environment is made.
    """
    makers = environment_makers(experiment, seed_resets)
    if experiment.vec_env == "subproc":
        from gallop.environments.workers import Workers

        return Workers(makers, experiment.env)
    from gallop.environments.physics_vec_env import PhysicsVecEnv

    on_policy = experiment.algorithm.on_policy
    return PhysicsVecEnv(makers, n_threads if on_policy else 1)


def environment_makers(
    experiment: Experiment, seed_resets: bool = False
) -> list[Callable[[], Env]]:
    """Return a function for each of the experiment's environments, to be called in its process."""
    make = partial(
        make_env,
        experiment.env,
        seed=None,
        wrappers=experiment.wrappers,
        env_kwargs=experiment.env_kwargs,
        seed_resets=seed_resets,
    )
    rebuildable = partial(_rebuildable, experiment.env, make, experiment.normalize.rewards)
    return [rebuildable] * experiment.n_envs


def rebuild(environments: VecEnv) -> None:
    """Replace every simulator by a new one, so that no state of an earlier segment remains.

    Raises:
        TaskError: if the task cannot be made.
    """
    environments.env_method("rebuild")


def _rebuildable(task: str, make: Callable[[], Env], normalized: bool) -> Env:
    """One environment of a `VecEnv`: guarded, and with a simulator that can be replaced."""
    import multiprocessing

    import gymnasium
    from stable_baselines3.common.monitor import Monitor

    from gallop.environments.guard import (
        LARGEST,
        LARGEST_LEARNABLE,
        Guard,
        Info,
        check_spaces_can_be_sent,
    )

    in_worker = multiprocessing.parent_process() is not None
    notes: list[str] = []
    note = notes.append if in_worker else say_once
    largest = LARGEST if normalized else LARGEST_LEARNABLE

    def made() -> Env:
        try:
            env = make()
        except ExperimentError as error:
            raise TaskError(task, error.message) from error
        return Monitor(Guard(env, task, training=True, largest_reward=largest, note=note))

    class Rebuildable(gymnasium.Wrapper[Observation, Action, Observation, Action]):
        def rebuild(self) -> None:
            self.env.close()
            self.env = made()

    class InWorker(Rebuildable):
        """The same in a worker process; its notes go to the parent.

        Ctrl-C does not reach a worker, but a task may raise KeyboardInterrupt itself. SB3's worker
        would end on it without a message, so it becomes a `TaskError` here.
        """

        def reset(
            self, *, seed: int | None = None, options: dict[str, Any] | None = None
        ) -> tuple[Observation, Info]:
            try:
                return self.env.reset(seed=seed, options=options)
            except KeyboardInterrupt as error:
                raise failure(task, error, self.env, "reset") from error

        def step(self, action: Action) -> tuple[Observation, Any, bool, bool, Info]:
            try:
                stepped = self.env.step(action)
            except KeyboardInterrupt as error:
                raise failure(task, error, self.env, "step") from error
            if notes:
                stepped[4][NOTES] = notes.copy()
                notes.clear()
            return stepped

    if not in_worker:
        return Rebuildable(made())
    env = made()
    check_spaces_can_be_sent(env, task)
    return InWorker(env)
