"""The files of an audit: audit.json, trajectory.npz and figures.

A milestone's are made by a child process while training continues. Its job, a file, holds the
episodes that were evaluated. The child replays them, and checks that the returns are bit-identical.

    python -m gallop.report.audit_files JOB.npz FOLDER      (started by audit_queue.py)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallop.environments.make import Task, evaluation_task
from gallop.environments.task_errors import close
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError
from gallop.evaluation.audit import sensitivity as sensitive_to
from gallop.evaluation.audit.audit import (
    Audit,
    as_record,
    audit_episodes,
    why_no_audit,
    why_not,
)
from gallop.evaluation.audit.trajectory import as_arrays
from gallop.evaluation.episodes import Episodes
from gallop.experiments.settings import Experiment
from gallop.reading import read_npz
from gallop.report import audit_figures
from gallop.report.child import answering
from gallop.run_folder.directory import Milestone, RunDirectory
from gallop.run_folder.files import remove_file, replacing
from gallop.run_folder.find_policy import find_policy
from gallop.run_folder.manifest import write_npz_result
from gallop.strict_json import dumps

NO_RETURN = "no episode has a finite return, so there is nothing to audit"
_JOB = ("seeds", "actions", "lengths", "returns", "terms", "term_names", "sensitive")


def write(found: Audit | str, folder: Path) -> list[Path]:
    """Write all files of an audit, or why there is none, into a folder; return their paths."""
    with replacing(folder) as temporary:
        target = Milestone(temporary)
        if isinstance(found, str):
            target.audit.write_text(dumps(why_not(found), indent=1) + "\n")
            return [Milestone(folder).audit]
        target.audit.write_text(dumps(as_record(found), indent=1) + "\n")
        arrays: Any = as_arrays(found.filmed.trajectory)
        np.savez_compressed(target.trajectory, **arrays)
        written = [target.audit, target.trajectory, *audit_figures.draw(found, temporary)]
    if not found.changes:
        remove_file(Milestone(folder).sensitivity)  # of an earlier audit
    return [folder / path.name for path in written]


def changed_tasks(task: Task) -> dict[str, Task] | str:
    """The tasks of the sensitivity by the names of their changes, or why there is no audit."""
    env = task.make()
    try:
        return why_no_audit(task, env) or sensitive_to.changed_tasks(task, env)
    finally:
        close(env)


# --- jobs ----------------------------------------------------------------------------------------


def write_job(path: Path, episodes: Episodes, sensitive: bool) -> None:
    """Write all that a child process needs to audit these episodes.

    Args:
        path: of the job.
        episodes: of the evaluation.
        sensitive: whether to measure the sensitivity, too.
    """
    kept = with_returns(episodes)
    names = list(kept.reward_terms)
    terms = list(kept.reward_terms.values())
    write_npz_result(
        path,
        {
            "seeds": kept.seeds,
            "actions": np.concatenate(kept.actions),
            "lengths": np.array([len(each) for each in kept.actions]),
            "returns": kept.returns,
            "terms": np.array(terms, np.float64).reshape(len(names), len(kept.seeds)),
            "term_names": np.array(names, dtype=str),
            "sensitive": np.array(sensitive),
        },
    )


def with_returns(episodes: Episodes) -> Episodes:
    """The episodes that can be audited: those with a finite return."""
    finite = np.flatnonzero(np.isfinite(episodes.returns)).tolist()
    kept = [index for index in finite if len(episodes.actions[index])]
    return Episodes(
        seeds=episodes.seeds[kept],
        returns=episodes.returns[kept],
        lengths=episodes.lengths[kept],
        reward_terms={name: sums[kept] for name, sums in episodes.reward_terms.items()},
        actions=[np.asarray(episodes.actions[index]) for index in kept],
    )


def nothing_to_audit(task: Task, episodes: Episodes) -> str:
    """Why these episodes cannot be audited; empty if they can."""
    env = task.make()
    try:
        reason = why_no_audit(task, env)
    finally:
        close(env)
    return reason or ("" if len(with_returns(episodes).seeds) else NO_RETURN)


def _episodes(job: Mapping[str, NDArray[Any]]) -> Episodes:
    """The episodes of a job.

    Raises:
        ValueError: if its arrays do not fit each other.
    """
    n, names, lengths = job["seeds"].size, job["term_names"].tolist(), job["lengths"]
    fits = (
        n > 0
        and all(job[name].shape == (n,) for name in ("seeds", "lengths", "returns"))
        and all(job[name].dtype.kind in "iu" for name in ("seeds", "lengths"))
        and job["returns"].dtype.kind == "f"
        and bool((lengths > 0).all())
        and job["actions"].shape[:1] == (int(lengths.sum()),)
        and job["term_names"].ndim == 1
        and job["terms"].shape == (len(names), n)
        and job["terms"].dtype.kind == "f"
        and job["sensitive"].shape == ()
    )
    if not fits:
        raise ValueError("the arrays of the audit's job do not fit each other")
    return Episodes(
        seeds=job["seeds"],
        returns=job["returns"],
        lengths=job["lengths"],
        reward_terms=dict(zip(names, job["terms"], strict=True)),
        actions=np.split(job["actions"], np.cumsum(job["lengths"])[:-1]),
    )


def make(job: Path, folder: Path) -> None:
    """Audit a milestone's episodes, and write the files into its folder.

    Args:
        job: path of the job.
        folder: of the milestone, which has its policy.

    Raises:
        ExperimentError: if an episode cannot be repeated.
        ValueError: if the job is damaged.
    """
    file = read_npz(job, _JOB)
    episodes, task = _episodes(file), evaluation_task(_experiment(folder))
    with watching(task.watchdog):
        tasks = changed_tasks(task)
        if isinstance(tasks, str):
            raise ExperimentError(tasks)
        changes = []
        if file["sensitive"]:
            policy, seeds = find_policy(folder).read(), episodes.seeds.tolist()
            changes = sensitive_to.sensitivity(policy, task, tasks, seeds)
        write(audit_episodes(task, episodes, changes), folder)


def _experiment(folder: Path) -> Experiment:
    """The experiment of a milestone's run."""
    return RunDirectory(folder.parent.parent).read_experiment()


def main(arguments: Sequence[str]) -> int:
    """Make one audit; answer why there is none."""
    job, folder = map(Path, arguments)

    def made() -> str:
        make(job, folder)
        return ""

    return answering(made)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
