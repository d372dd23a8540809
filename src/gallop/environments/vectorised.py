"""Environments that step together, for training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from gallop.environments.make import make_env
from gallop.environments.spaces import Action, Env, Observation
from gallop.experiments.settings import Experiment

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


def training_environments(experiment: Experiment) -> VecEnv:
    """The experiment's `n_envs` environments, as SB3 wants them, in this process or in workers.

    They live as long as the run. `rebuild` makes the simulators inside them anew, which is what
    each segment begins with; worker processes, slow to start, stay.
    """
    from stable_baselines3.common.vec_env import DummyVecEnv

    make = partial(
        make_env,
        experiment.env,
        seed=None,
        wrappers=experiment.wrappers,
        **experiment.env_kwargs,
    )
    makers: list[Callable[[], Env]] = [
        partial(_rebuildable, make) for _ in range(experiment.n_envs)
    ]
    if experiment.vec_env == "subproc":
        from gallop.environments.workers import Workers

        return Workers(makers, experiment.env)
    return DummyVecEnv(makers)


def rebuild(environments: VecEnv) -> None:
    """Make every simulator anew, so that nothing of a former segment is left inside."""
    environments.env_method("rebuild")


def _rebuildable(make: Callable[[], Env]) -> Env:
    import gymnasium
    from stable_baselines3.common.monitor import Monitor

    class Rebuildable(gymnasium.Wrapper[Observation, Action, Observation, Action]):
        def rebuild(self) -> None:
            self.env.close()
            self.env = Monitor(make())

    return Rebuildable(Monitor(make()))
