"""Choose the learner of an experiment, with a reason. A run never switches its learner."""

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


OBSERVATIONS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")  # and Dict spaces of these
LEAST_IMAGE = 36  # pixels: what SB3's NatureCNN reduces to one
MAX_CRITICS = 16  # as in native/algorithms.hpp
NO_KERNELS = (
    "the native kernels were not built (no C++ compiler when Gallop was installed?); training "
    "takes several times as long"
)


class Choice(NamedTuple):
    """The choice of a learner."""

    name: Literal["native", "sb3"]
    """Name of the learner."""
    reason: str
    """Why it was chosen, for the plan."""
    n_threads: int
    """Threads that it uses."""
    instruction_set: str
    """Instruction set of the kernels; empty for SB3."""


def choose_learner(
    experiment: Experiment,
    observation_space: Space,
    action_space: Space,
) -> Choice:
    """Choose the learner that trains this experiment.

    Args:
        experiment: a resolved experiment.
        observation_space: of its task.
        action_space: of its task, as policies see it.

    Raises:
        ExperimentError: if the algorithm does not support the task's spaces, the native learner is
            required but does not support the experiment, or the device does not exist.
    """
    kind = type(action_space).__name__
    served = experiment.algorithm.action_spaces
    if kind not in served:
        able = [spec.name for spec in ALGORITHMS.values() if kind in spec.action_spaces]
        hint = f"use algo: {' or '.join(able)}" if able else "no algorithm supports these"
        raise ExperimentError(
            f"{experiment.algo} needs {' or '.join(served)} actions, and {experiment.env} has "
            f"{kind} actions; {hint}",
            "algo",
        )
    _check_bounds(experiment, action_space)
    is_dict = _is_dict(observation_space)
    _check_observations(experiment.algorithm, observation_space)
    _check_goals(experiment, observation_space)
    policy = experiment.hyperparameters.policy
    if policy != "auto" and (policy == "MultiInputPolicy") != is_dict:
        raise ExperimentError(
            f"{policy} does not support {type(observation_space).__name__} observations; auto "
            "chooses the one that does",
            "hyperparameters.policy",
        )
    _check_device(experiment.device)
    reason = why_not_native(experiment, observation_space, action_space)
    if experiment.learner == "native" and reason:
        raise ExperimentError(f"native: {reason}; auto or sb3 trains it on SB3", "learner")
    if reason or experiment.learner == "sb3":
        return Choice(
            "sb3",
            reason if experiment.learner == "auto" else "requested",
            experiment.n_threads or 1,
            "",
        )
    why = "the fastest for this experiment" if experiment.learner == "auto" else "requested"
    return Choice("native", why, kernels.n_threads(experiment.n_threads), machine.instruction_set())


def _check_bounds(experiment: Experiment, action_space: Space) -> None:
    """Check that Box actions are bounded: SB3's learners and the native one scale by the bounds."""
    if type(action_space).__name__ != "Box":
        return
    space: Any = action_space
    if 0 in space.shape:
        raise ExperimentError(f"{experiment.env} has no actions: its space is {space}", "env")
    with np.errstate(over="ignore", invalid="ignore"):
        is_bounded = np.isfinite(space.high - space.low).all()
    if (space.high <= space.low).all():
        low, high = float(space.low.reshape(-1)[0]), float(space.high.reshape(-1)[0])
        raise ExperimentError(
            f"{experiment.env} has no action with a range: index 0 goes from {low:g} to {high:g}; "
            "use a wrapper with a wider action_space (--wrappers)",
            "env",
        )
    if not is_bounded:
        raise ExperimentError(
            f"{experiment.algo} needs actions with finite bounds, and {experiment.env} has "
            f"{space}; use a wrapper with a bounded action_space (--wrappers)",
            "env",
        )


def _check_observations(spec: AlgorithmSpec, observation_space: Space) -> None:
    """Check that the algorithm has networks for images or Dict spaces, if the task needs them."""
    parts = getattr(observation_space, "spaces", {}) if _is_dict(observation_space) else {}
    for key, part in (parts or {"": observation_space}).items():
        where = f" (part {key!r})" if key else ""
        kind = type(part).__name__
        if kind not in OBSERVATIONS and (key or not _is_dict(part)):
            raise ExperimentError(
                f"{spec.name} has no networks for {kind} observations{where}: use a wrapper that "
                "makes an array of them (--wrappers), such as "
                "gymnasium.wrappers:FlattenObservation",
                "env",
            )
        shape = part.shape or ()
        if policy_class_index(part) == 1 and sorted(shape)[1] < LEAST_IMAGE:  # channels: any place
            raise ExperimentError(
                f"images of {'×'.join(map(str, shape))}{where} are too small for SB3's network, "
                f"which needs {LEAST_IMAGE}×{LEAST_IMAGE}: use a wrapper that enlarges or flattens "
                "them (--wrappers), such as gymnasium.wrappers:FlattenObservation",
                "env",
            )
    place = policy_class_index(observation_space)
    if place < len(spec.networks.policy_classes):
        return
    able = [s.name for s in ALGORITHMS.values() if place < len(s.networks.policy_classes)]
    what = "Dict observations" if place == 2 else "images"
    raise ExperimentError(
        f"{spec.name} has no networks for {what}; use algo: {alternatives(able)}", "algo"
    )


def _is_dict(space: Space) -> bool:
    return type(space).__name__ == "Dict"


def _check_goals(experiment: Experiment, observation_space: Space) -> None:
    """Check that the task has goals, if the replay buffer replaces them."""
    if getattr(experiment.hyperparameters, "replay_buffer", "") != "her":
        return
    parts = getattr(observation_space, "spaces", ())
    missing = sorted({"observation", "achieved_goal", "desired_goal"} - set(parts))
    if missing:
        raise ExperimentError(
            f"her needs a task with goals, and the observations of {experiment.env} have no "
            f"{alternatives(missing)}; use uniform",
            "hyperparameters.replay_buffer",
        )


def why_not_native(
    experiment: Experiment,
    observation_space: Space,
    action_space: Space,
) -> str:
    """Why the native learner cannot train this experiment; empty if it can.

    Args:
        experiment: a resolved experiment.
        observation_space: of its task.
        action_space: of its task, as policies see it.
    """
    if not experiment.algorithm.native_class:
        return experiment.algorithm.why_not_native
    if kernels.missing():
        return NO_KERNELS
    unsupported = _unsupported(experiment, observation_space, action_space)
    return f"the native learner does not support {unsupported}" if unsupported else ""


def _unsupported(
    experiment: Experiment,
    observation_space: Space,
    action_space: Space,
) -> str:
    """The first part of an experiment that the native learner does not support; else empty."""
    settings: Any = experiment.hyperparameters
    networks = settings.policy_kwargs
    if experiment.device not in ("cpu", "auto"):
        return f"device {experiment.device}"
    kind = type(observation_space).__name__
    if kind != "Box" or settings.policy in ("CnnPolicy", "MultiInputPolicy"):
        return str(settings.policy) if kind == "Box" else f"{kind} observations"
    if observation_space.dtype == np.uint8:
        return "observations of bytes, such as images"
    if type(action_space).__name__ not in ("Box", "Discrete"):
        return f"{type(action_space).__name__} actions"
    if getattr(action_space, "start", 0) != 0:
        return "Discrete spaces that do not start at 0"
    if settings.use_sde if hasattr(settings, "use_sde") else False:
        return "gSDE"
    if networks.activation_fn not in (None, "relu", "tanh"):
        return f"the activation function {networks.activation_fn} (only relu and tanh)"
    if getattr(settings, "noise_type", "none") == "ornstein-uhlenbeck":
        return "Ornstein-Uhlenbeck noise (only normal noise)"
    if unknown := sorted(set(networks.optimizer_kwargs or {}) - {"eps", "betas", "weight_decay"}):
        return f"Adam's argument {unknown[0]}"
    if (networks.n_critics or 0) > MAX_CRITICS:
        return f"more than {MAX_CRITICS} critics"
    return ""


def _check_device(device: str) -> None:
    """Check that PyTorch has the device: without it, SB3 would silently train on the CPU."""
    if device in ("cpu", "auto"):
        return
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise ExperimentError(
            f"{device!r}: PyTorch finds no such device; use cpu or auto", "device"
        ) from None


def make_learner(
    experiment: Experiment, choice: Choice, environments: VecEnv, seed: int
) -> Learner:
    """Make the chosen learner.

    Args:
        experiment: a resolved experiment.
        choice: the learner, its number of threads and its instruction set.
        environments: the training environments.
        seed: of the initial weights.

    Raises:
        ExperimentError: if the hyper-parameters are not valid for the algorithm.
    """
    try:
        if choice.name == "sb3":
            from gallop.learners.stable_baselines import StableBaselinesLearner

            return StableBaselinesLearner(experiment, environments, seed, choice.n_threads)
        native: Callable[..., Learner] = imported(experiment.algorithm.native_class)
        engine = kernels.engine(choice.n_threads, choice.instruction_set)
        return native(experiment, environments, seed, engine)
    except (TypeError, ValueError, AssertionError, MemoryError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if isinstance(error, MemoryError):
            reason += "; a smaller hyperparameters.buffer_size needs less memory"
        raise ExperimentError(
            f"{experiment.algo} cannot be made with these values: {reason}", "hyperparameters"
        ) from error
