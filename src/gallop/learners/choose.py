"""Experiment → Learner, with the reason. Chosen once, stored in the run, never switched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gallop.experiment import Experiment, ExperimentError
from gallop.learners.learner import Learner

if TYPE_CHECKING:
    import gymnasium
    from stable_baselines3.common.vec_env import VecEnv

# Action spaces that each algorithm serves, by the name of Gymnasium's class.
ACTION_SPACES = {
    "sac": ("Box",),
    "td3": ("Box",),
    "ppo": ("Box", "Discrete", "MultiDiscrete", "MultiBinary"),
}


class Choice(NamedTuple):
    """The learner's name and why it was taken."""

    name: str
    reason: str


def choose_learner(
    experiment: Experiment,
    observation_space: gymnasium.Space[Any],
    action_space: gymnasium.Space[Any],
) -> Choice:
    """Which learner trains this experiment.

    Raises:
        ExperimentError: if the algorithm cannot serve the task's spaces, or there is no such
            device.
    """
    kind = type(action_space).__name__
    served = ACTION_SPACES[experiment.algo]
    if kind not in served:
        able = [algo for algo, spaces in ACTION_SPACES.items() if kind in spaces]
        hint = f"use algo: {' or '.join(able)}" if able else "no algorithm here does"
        raise ExperimentError(
            f"{experiment.algo} needs {' or '.join(served)} actions, and {experiment.env} has "
            f"{kind} actions; {hint}",
            "algo",
        )
    is_dict = type(observation_space).__name__ == "Dict"
    policy = experiment.hyperparameters.policy
    if policy != "auto" and (policy == "MultiInputPolicy") != is_dict:
        raise ExperimentError(
            f"{policy} does not fit {type(observation_space).__name__} observations; auto takes "
            "the one that does",
            "hyperparameters.policy",
        )
    _check_device(experiment.device)
    if experiment.learner == "sb3":
        return Choice("sb3", "asked for")
    return Choice("sb3", "the only learner so far")


def _check_device(device: str) -> None:
    """SB3 would quietly train on the CPU where there is no such device."""
    if device in ("cpu", "auto"):
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise ExperimentError(
            f"{device!r}: PyTorch sees no such device here; use cpu or auto", "device"
        ) from None


def make_learner(experiment: Experiment, environments: VecEnv, seed: int) -> Learner:
    """The chosen learner with first weights from `seed`.

    Raises:
        ExperimentError: if the hyper-parameters do not make one.
    """
    from gallop.learners.stable_baselines import StableBaselinesLearner

    try:
        return StableBaselinesLearner(experiment, environments, seed)
    except (TypeError, ValueError, AssertionError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExperimentError(
            f"{experiment.algo} cannot be made with these: {reason}", "hyperparameters"
        ) from error
