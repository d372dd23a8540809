"""What training takes over from the policy file of `init_from`, beside the weights.

A policy is more than its weights: with another activation function, or without the normaliser of
its observations, the same weights are another policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError, alternatives
from gallop.experiments.settings import Experiment
from gallop.policies import sb3_zip
from gallop.policies.safe_archive import PolicyFileError


class Started(NamedTuple):
    """An experiment that starts from a policy file."""

    experiment: Experiment
    """With the settings that come from the file."""
    notes: tuple[str, ...]
    """What was taken over, one line each."""


def starting_from(experiment: Experiment, path: Path) -> Started:
    """Take over the settings that belong to the policy.

    Args:
        experiment: an experiment with `init_from`.
        path: the policy file that it names.

    Raises:
        ExperimentError: if the file holds a policy of another algorithm, or contradicts a setting.
        PolicyFileError: if it cannot be read.
    """
    found = sb3_zip.read_start(path)
    if found.algorithms and experiment.algo not in found.algorithms:
        titles = alternatives([ALGORITHMS[name].title for name in found.algorithms])
        raise ExperimentError(
            f"{path} holds a policy of {titles}, and this experiment trains "
            f"{experiment.algorithm.title}",
            "init_from",
        )
    notes: list[str] = []
    experiment = _with_activation(experiment, found, path, notes)
    return Started(_with_normalizer(experiment, found, path, notes), tuple(notes))


def _with_activation(
    experiment: Experiment, found: sb3_zip.Start, path: Path, notes: list[str]
) -> Experiment:
    """Return the experiment with the policy's activation function."""
    default = experiment.algorithm.default_activation
    theirs, networks = found.activation or default, experiment.hyperparameters.policy_kwargs
    if networks.activation_fn is not None and networks.activation_fn != theirs:
        raise ExperimentError(
            f"policy_kwargs.activation_fn {networks.activation_fn}: the networks of {path} have "
            f"{theirs}; leave this setting out to start from them",
            "hyperparameters.policy_kwargs.activation_fn",
        )
    if theirs == (networks.activation_fn or default):
        return experiment
    notes.append(f"activation function {theirs}, from {path}")
    changed = networks.model_copy(update={"activation_fn": theirs})
    hyperparameters = experiment.hyperparameters.model_copy(update={"policy_kwargs": changed})
    return experiment.model_copy(update={"hyperparameters": hyperparameters})


def _with_normalizer(
    experiment: Experiment, found: sb3_zip.Start, path: Path, notes: list[str]
) -> Experiment:
    """Return the experiment with the clipping of the policy's normaliser."""
    ours, theirs = experiment.normalize, found.normalizer
    if theirs is None:
        if ours.observations:
            raise PolicyFileError(
                f"{path}: it was not trained on normalised observations, but the experiment "
                "normalises: use --normalize.observations false"
            )
        return experiment
    if not ours.observations:
        raise PolicyFileError(
            f"{path}: it was trained on normalised observations, but the experiment does not "
            "normalise: use --normalize.observations true"
        )
    if theirs.epsilon != sb3_zip.EPSILON:
        raise PolicyFileError(
            f"{path}: its normaliser adds {theirs.epsilon:g} to variances; only "
            f"{sb3_zip.EPSILON:g} can be trained further"
        )
    if theirs.clip == ours.clip_observations:
        return experiment
    notes.append(f"normalised observations are clipped at {theirs.clip:g}, as those of {path}")
    changed = ours.model_copy(update={"clip_observations": theirs.clip})
    return experiment.model_copy(update={"normalize": changed})
