"""Experiment → Learner, with the reason. Chosen once, stored in the run, never switched."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from gallop import machine
from gallop.algorithms.spec import AlgorithmSpec, imported
from gallop.algorithms.table import ALGORITHMS
from gallop.environments.spaces import Space, policy_class_index
from gallop.errors import ExperimentError, alternatives
from gallop.experiments.settings import Experiment
from gallop.learners.learner import Learner
from gallop.policies import kernels

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


MAX_CRITICS = 16  # as in native/algorithms.hpp
NO_KERNELS = (
    "the native kernels were not built (no C++ compiler when Gallop was installed?); training "
    "takes several times as long"
)


class Choice(NamedTuple):
    """The learner's name and why it was taken."""

    name: Literal["native", "sb3"]
    reason: str
    n_threads: int
    instruction_set: str
    """Of the kernels; empty where there are none, or another learner than the native one."""


def choose_learner(
    experiment: Experiment,
    observation_space: Space,
    action_space: Space,
) -> Choice:
    """Which learner trains this experiment.

    Raises:
        ExperimentError: if the algorithm cannot serve the task's spaces, or there is no such
            device.
    """
    kind = type(action_space).__name__
    served = experiment.algorithm.action_spaces
    if kind not in served:
        able = [spec.name for spec in ALGORITHMS.values() if kind in spec.action_spaces]
        hint = f"use algo: {' or '.join(able)}" if able else "no algorithm here does"
        raise ExperimentError(
            f"{experiment.algo} needs {' or '.join(served)} actions, and {experiment.env} has "
            f"{kind} actions; {hint}",
            "algo",
        )
    _check_bounds(experiment, action_space)
    is_dict = type(observation_space).__name__ == "Dict"
    _check_observations(experiment.algorithm, observation_space)
    policy = experiment.hyperparameters.policy
    if policy != "auto" and (policy == "MultiInputPolicy") != is_dict:
        raise ExperimentError(
            f"{policy} does not fit {type(observation_space).__name__} observations; auto takes "
            "the one that does",
            "hyperparameters.policy",
        )
    _check_device(experiment.device)
    reason = unserved(experiment, observation_space, action_space)
    if experiment.learner == "native" and reason:
        raise ExperimentError(
            f"native cannot train this: {reason}; auto or sb3 trains it on SB3", "learner"
        )
    if experiment.precision != "float32":
        why_not = "it was asked to train on SB3" if experiment.learner == "sb3" else reason
        if why_not:
            raise ExperimentError(
                f"{experiment.precision} needs the native learner, and {why_not}", "precision"
            )
        if not machine.has_bf16():
            raise ExperimentError(
                f"{experiment.precision} needs a processor with AVX512-BF16 or AMX; this one has "
                f"{machine.instruction_set()}; use float32",
                "precision",
            )
    if reason or experiment.learner == "sb3":
        return Choice(
            "sb3",
            reason if experiment.learner == "auto" else "asked for",
            experiment.n_threads or 1,
            "",
        )
    why = "serves this, and is the fastest" if experiment.learner == "auto" else "asked for"
    return Choice("native", why, kernels.n_threads(experiment.n_threads), machine.instruction_set())


def _check_bounds(experiment: Experiment, action_space: Space) -> None:
    """SB3's algorithms, and ours, choose between a lowest and a highest action."""
    if type(action_space).__name__ != "Box":
        return
    space: Any = action_space
    if 0 in space.shape:
        raise ExperimentError(f"{experiment.env} has no actions: it takes {space}", "env")
    with np.errstate(over="ignore", invalid="ignore"):
        is_bounded = np.isfinite(space.high - space.low).all()
    if not is_bounded:
        raise ExperimentError(
            f"{experiment.algo} needs actions with finite bounds, and {experiment.env} takes "
            f"{space}; a wrapper with a bounded action_space helps (--wrappers)",
            "env",
        )


def _check_observations(spec: AlgorithmSpec, observation_space: Space) -> None:
    """Not every algorithm has networks for images and for Dict spaces."""
    place = policy_class_index(observation_space)
    if place < len(spec.networks.policy_classes):
        return
    able = [s.name for s in ALGORITHMS.values() if place < len(s.networks.policy_classes)]
    what = "Dict observations" if place == 2 else "images"
    raise ExperimentError(
        f"{spec.name} has no networks for {what}; use algo: {alternatives(able)}", "algo"
    )


def unserved(
    experiment: Experiment,
    observation_space: Space,
    action_space: Space,
) -> str:
    """Why the native learner cannot train this experiment; empty if it can."""
    settings: Any = experiment.hyperparameters
    networks = settings.policy_kwargs
    if not experiment.algorithm.native_class:
        return experiment.algorithm.why_not_native
    if kernels.missing():
        return NO_KERNELS
    if experiment.device not in ("cpu", "auto"):
        return f"it computes on the CPU, not on {experiment.device}"
    kind = type(observation_space).__name__
    if kind != "Box" or settings.policy in ("CnnPolicy", "MultiInputPolicy"):
        return f"it has no {settings.policy if kind == 'Box' else kind + ' observations'}"
    if observation_space.dtype == np.uint8:
        return "it has no observations of bytes, such as images"
    if type(action_space).__name__ not in ("Box", "Discrete"):
        return f"it has no {type(action_space).__name__} actions"
    if getattr(action_space, "start", 0) != 0:
        return "its choices of action begin with 0"
    if settings.use_sde if hasattr(settings, "use_sde") else False:
        return "it has no gSDE"
    if networks.activation_fn not in (None, "relu", "tanh"):
        return f"it has ReLU and Tanh, not {networks.activation_fn}"
    if getattr(settings, "noise_type", "none") == "ornstein-uhlenbeck":
        return "it has normal noise, not Ornstein-Uhlenbeck's"
    if unknown := sorted(set(networks.optimizer_kwargs or {}) - {"eps", "betas", "weight_decay"}):
        return f"its Adam has no {unknown[0]}"
    if (networks.n_critics or 0) > MAX_CRITICS:
        return f"it has at most {MAX_CRITICS} critics"
    return ""


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


def make_learner(
    experiment: Experiment, choice: Choice, environments: VecEnv, seed: int
) -> Learner:
    """The chosen learner with first weights from `seed`.

    Raises:
        ExperimentError: if the hyper-parameters do not make one.
    """
    try:
        if choice.name == "sb3":
            from gallop.learners.stable_baselines import StableBaselinesLearner

            return StableBaselinesLearner(experiment, environments, seed, choice.n_threads)
        native: Callable[..., Learner] = imported(experiment.algorithm.native_class)
        return native(experiment, environments, seed, choice.n_threads)
    except (TypeError, ValueError, AssertionError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ExperimentError(
            f"{experiment.algo} cannot be made with these: {reason}", "hyperparameters"
        ) from error
