"""One training of a search, in its own process: one seed of a trial.

python -m gallop.tuning.trial FOLDER

The folder is like a run's: experiment.yaml, seeds.json, evaluations.npz, state/, provenance.json.
But the policy is evaluated only on search seeds and not kept, since a trial serves its evaluations
alone. If it is killed and restarted, it resumes from its last boundary, with the same bits.
"""

from __future__ import annotations

import functools
import logging
import sys
from pathlib import Path

import numpy as np

from gallop.answers import say_why
from gallop.environments.make import evaluation_env
from gallop.errors import (
    DivergedError,
    ExperimentError,
    FrozenError,
    HeldError,
    TaskError,
    WorkerError,
)
from gallop.evaluation.episodes import evaluate
from gallop.execution.work import HELD, NO_ROOM
from gallop.experiments.settings import Experiment
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import remove_leftovers
from gallop.run_folder.full_disk import is_full
from gallop.run_folder.prepared import prepare
from gallop.run_folder.provenance import now, provenance
from gallop.runs.stopping import Stop, Stopped, answering_signals
from gallop.runs.training import learner_for, train

COMMAND = ("gallop.tuning.trial",)
"""The module that trains a folder, for a work item."""


def make_folder(path: Path, experiment: Experiment, episode_seeds: list[int]) -> RunDirectory:
    """Create the folder of a training, or complete one that a kill left incomplete.

    Args:
        path: of the folder.
        experiment: what to train.
        episode_seeds: seeds of the evaluation episodes.
    """
    folder = RunDirectory(path)
    folder.state.mkdir(parents=True, exist_ok=True)
    if not folder.seeds_file.exists():
        seeds = {"training_seed": experiment.training_seed, "search_seeds": episode_seeds}
        folder.write_json("seeds.json", seeds)
    if not folder.experiment_file.exists():
        folder.write_experiment(experiment)
    return folder


def bring_to_end(folder: RunDirectory, stop: Stop) -> None:
    """Train and evaluate from the folder's last boundary to the end.

    Raises:
        ExperimentError: if the hyper-parameters are inconsistent.
        DivergedError: if training diverges or a return is not finite.
        Stopped: after a signal; the last boundary is kept.
    """
    experiment = folder.read_experiment()
    prepared = prepare(experiment)
    episode_seeds: list[int] = folder.read_json("seeds.json")["search_seeds"]
    make = functools.partial(evaluation_env, experiment)
    with learner_for(prepared) as (environments, learner):
        if not (folder.path / "provenance.json").exists():
            folder.write_json("provenance.json", provenance(prepared))
        saved = resume_state.newest_boundary(folder.state)
        n_done, timestep = (saved.n_segments, saved.timestep) if saved else (0, 0)
        if saved:
            resume_state.load_boundary(saved, learner)
        folder.numbers.forget_after(timestep)
        tick = functools.partial(_tick, stop)
        seed = experiment.training_seed
        for outcome in train(prepared.plan, learner, environments, seed, n_done, tick):
            if outcome.boundary.evaluates:
                episodes = evaluate(
                    learner.policy,
                    make,
                    episode_seeds,
                    prepared.cut_after,
                    stop.check,
                    experiment.n_threads,
                )
                folder.numbers.append_evaluation(outcome.boundary.timestep, episodes)
                if not np.isfinite(episodes.returns).all():
                    raise DivergedError(
                        f"the returns {episodes.returns.tolist()} are not all finite"
                    )
            resume_state.save_boundary(folder.state, learner, outcome.boundary.segment + 1)
            stop.check()
    record = folder.read_json("provenance.json")
    folder.write_json("provenance.json", record | {"end": now()})


def _tick(stop: Stop, timestep: int) -> None:
    stop.check()


def main(path: Path) -> int:
    """Run one training; return the exit code: 0 done, 1 failed, 2 refused, or one of work.py."""
    folder = RunDirectory(path)
    stop = Stop()
    try:
        with answering_signals(), stop.listening(), folder.locked():
            if not folder.is_finished():
                remove_leftovers(folder.path)
                bring_to_end(folder, stop)
            resume_state.forget(folder.state)  # a finished trial's policy is not needed
    except Stopped as stopped:
        return 128 + stopped.signal_number
    except (DivergedError, TaskError, WorkerError, FrozenError) as error:
        if isinstance(error, TaskError):
            print(error.details, file=sys.stderr)  # the traceback, for worker.log
        say_why(error)
        return 1
    except OSError as error:
        if not is_full(error):
            raise
        say_why(error)
        return NO_ROOM
    except HeldError:
        return HELD
    except ExperimentError as error:
        say_why(error)
        return 2
    return 0


if __name__ == "__main__":
    logging.captureWarnings(True)
    sys.exit(main(Path(sys.argv[1])))
