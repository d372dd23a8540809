"""Training as a generator of segments: the loop yields, others consume."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gallop.environments.vectorised import rebuild, training_environments
from gallop.environments.watchdog import watching
from gallop.errors import DivergedError, TaskError
from gallop.experiments import seeding
from gallop.experiments.plan import Boundary, Plan
from gallop.learners.choose import make_learner
from gallop.learners.learner import Learner, SegmentDiagnostics, Tick
from gallop.run_folder.find_policy import policy_path
from gallop.run_folder.prepared import PreparedRun

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv


class Outcome(NamedTuple):
    """A finished segment. The learner does not change until the next one is requested."""

    boundary: Boundary
    diagnostics: SegmentDiagnostics


@contextlib.contextmanager
def learner_for(prepared: PreparedRun) -> Iterator[tuple[VecEnv, Learner]]:
    """Yield the experiment's environments and a fresh learner, supervised by the watchdog."""
    experiment = prepared.experiment
    with watching(experiment.watchdog):
        environments = training_environments(
            experiment, prepared.choice.n_threads, prepared.probed.fresh_entropy
        )
        try:
            seed = seeding.initialisation_seed(experiment.training_seed)
            learner = make_learner(experiment, prepared.choice, environments, seed)
            yield environments, learner
            learner.close()
        finally:
            environments.close()


@contextlib.contextmanager
def initial_learner(prepared: PreparedRun) -> Iterator[tuple[VecEnv, Learner]]:
    """Yield environments and learner as they are at timestep 0: with the policy of `init_from`, if
    the experiment names one."""
    with learner_for(prepared) as (environments, learner):
        if prepared.experiment.init_from:
            learner.read_policy(policy_path(Path(prepared.experiment.init_from)))
        yield environments, learner


def train(
    plan: Plan,
    learner: Learner,
    environments: VecEnv,
    training_seed: int,
    first_segment: int,
    on_tick: Tick,
) -> Iterator[Outcome]:
    """Train segment by segment, from `first_segment` to the end of the plan.

    Each segment starts with fresh simulators, and with all random streams seeded from (training
    seed, segment number). So the learner holds all state between two segments, and a resumed run
    equals an uninterrupted one by construction.

    Args:
        plan: the boundaries of the segments.
        learner: at the boundary before `first_segment`.
        environments: the training environments.
        training_seed: the experiment's.
        first_segment: number of the first segment to train, from 0.
        on_tick: called with the current timestep while a segment trains.

    Yields:
        The outcome of each segment.

    Raises:
        TaskError: if the task's own code fails, or returns something unusable.
        DivergedError: if the task, the networks or the losses produce NaN or infinity.
    """
    for boundary in plan.boundaries[first_segment:]:
        try:
            rebuild(environments)
            diagnostics = learner.learn(
                environments,
                seed=seeding.segment_seed(training_seed, boundary.segment),
                timesteps=boundary.timestep - learner.timestep,
                horizon=plan.horizon,
                on_tick=on_tick,
            )
        except TaskError as error:
            timestep = learner.timestep
            error.where = f"training, segment {boundary.segment}, after timestep {timestep:,}"
            if not error.cause:
                raise
            told = DivergedError(str(error), error.cause)
            told.evidence = error.evidence
            raise told from error
        yield Outcome(boundary, diagnostics)
