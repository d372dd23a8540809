"""Preparing a run: everything that follows from its experiment, computed once and passed on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gallop import machine
from gallop.environments.identity import Identity, identity_of
from gallop.environments.make import RewardWrappers, TriedOut, evaluation_task, try_out
from gallop.environments.probe import Probed, probe
from gallop.environments.spaces import Space
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError
from gallop.experiments.plan import Plan, make_plan
from gallop.experiments.settings import Experiment
from gallop.experiments.task import cut_after
from gallop.experiments.yaml_file import to_yaml
from gallop.learners.choose import Choice, choose_learner
from gallop.policies.starting_point import starting_from
from gallop.run_folder.find_policy import policy_path
from gallop.run_folder.trackers import check_installed


@dataclass(frozen=True)
class PreparedRun:
    """An experiment that can be run on this machine, and how it will run."""

    experiment: Experiment
    observation_space: Space
    action_space: Space
    choice: Choice
    """The learner that trains it."""
    plan: Plan
    reward_wrappers: RewardWrappers
    """Wrappers that change the task's rewards."""
    probed: Probed
    """Whether the task's seed decides what it returns."""
    task: Identity
    """The task of its evaluations, as it is on this machine."""
    time_limit: int | None
    """Time limit of evaluation episodes, in timesteps; None if the task declares none."""
    start_notes: tuple[str, ...] = ()
    """What was taken over from the policy file of `init_from`, one line each."""

    @property
    def cut_after(self) -> int:
        """Timesteps after which an evaluation episode is cut off."""
        return self.experiment.evaluation.max_episode_timesteps or cut_after(self.time_limit)

    def on_threads(self, n: int) -> PreparedRun:
        """Return the same run with at most so many threads, unless its experiment sets them."""
        n_threads = self.experiment.n_threads or min(self.choice.n_threads, n)
        return replace(self, choice=self.choice._replace(n_threads=n_threads))

    def with_instruction_set(self, instruction_set: str) -> PreparedRun:
        """Return the same run with this instruction set, if the processor supports it. A run keeps
        the one it began with: another rounds sums differently, and so trains another policy."""
        if self.choice.name == "sb3" or instruction_set not in machine.instruction_sets():
            return self
        return replace(self, choice=self.choice._replace(instruction_set=instruction_set))


def check_task(experiment: Experiment) -> None:
    """Check the task of an experiment that need not be resolved.

    Raises:
        ExperimentError: if the task does not work or is not supported by the algorithm.
    """
    _try_task(experiment)


def _try_task(experiment: Experiment) -> tuple[TriedOut, RewardWrappers, Choice]:
    with watching(experiment.watchdog):
        tried = try_out(experiment)
        changed = evaluation_task(experiment).reward_wrappers()
    choice = choose_learner(experiment, tried.observation_space, tried.action_space)
    wrappers = (*changed.left_out, *changed.kept)
    if wrappers and getattr(experiment.hyperparameters, "replay_buffer", "") == "her":
        raise ExperimentError(
            f"her computes rewards with the task itself, without {wrappers[0]}: leave the wrapper "
            "out, or use uniform",
            "hyperparameters.replay_buffer",
        )
    return tried, changed, choice


def prepare(experiment: Experiment) -> PreparedRun:
    """Try out the task, choose the learner and plan a new run. Nothing is written.

    Raises:
        ExperimentError: if the task does not work or is not supported by the algorithm, a tracker
            is not installed, the experiment cannot be written as YAML, or its initial policy cannot
            be used.
    """
    to_yaml(experiment)  # fails before the task is made
    notes: tuple[str, ...] = ()
    if experiment.init_from:
        path = policy_path(Path(experiment.init_from))
        experiment, notes = starting_from(experiment, path)
    with watching(experiment.watchdog):
        probed = probe(evaluation_task(experiment))
    return replace(prepare_again(experiment, probed), start_notes=notes)


def prepare_again(experiment: Experiment, probed: Probed) -> PreparedRun:
    """Do the same for a run that has begun.

    Args:
        experiment: of the run.
        probed: what was found out about its task when it began.

    Raises:
        ExperimentError: as `prepare` does.
    """
    to_yaml(experiment)  # fails now, not when the folder is made
    check_installed(experiment.trackers)
    (observation_space, action_space, limit), changed, choice = _try_task(experiment)
    transition_bytes = 0
    if hasattr(experiment.hyperparameters, "buffer_size"):
        rounded = choice.name == "native"
        transition_bytes = _transition_bytes(observation_space, action_space, rounded)
    plan = make_plan(experiment, transition_bytes)
    with watching(experiment.watchdog):
        task = identity_of(evaluation_task(experiment))
    return PreparedRun(
        experiment, observation_space, action_space, choice, plan, changed, probed, task, limit
    )


def _transition_bytes(observation_space: Space, action_space: Space, rounded: bool) -> int:
    """Return the bytes of a transition in the replay buffer.

    SB3's buffer keeps the task's own types; the native learner's is `rounded` to float32.
    """
    from gymnasium import spaces

    def size(space: Space) -> int:
        if isinstance(space, spaces.Dict):
            return sum(size(part) for part in space.values())
        dtype = np.float32 if rounded else space.dtype or np.float32
        return int(np.prod(space.shape or (1,))) * np.dtype(dtype).itemsize

    actions = int(np.prod(action_space.shape or (1,))) * 4
    ends = 1 if rounded else 2 * 4  # SB3 stores done and timeout
    return 2 * size(observation_space) + actions + 4 + ends  # 4 bytes of reward
