"""The files of an audit: audit.json, trajectory.npz and figures.

A milestone's are made by the process that makes its film, from the episodes in the film's job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallop.environments.make import Task
from gallop.environments.task_errors import close
from gallop.evaluation.audit import sensitivity as sensitive_to
from gallop.evaluation.audit.audit import (
    Audit,
    as_record,
    audit_episodes,
    has_model,
    why_not,
)
from gallop.evaluation.audit.trajectory import as_arrays
from gallop.evaluation.episodes import Episodes
from gallop.report import audit_figures
from gallop.run_folder.directory import Milestone
from gallop.run_folder.files import replacing
from gallop.run_folder.find_policy import find_policy
from gallop.strict_json import dumps

JOB = ("audit_seeds", "audit_lengths", "audit_actions", "audit_returns", "audit_terms",
       "audit_term_names")  # fmt: skip


def write(found: Audit, folder: Path) -> list[Path]:
    """Write all files of an audit into a folder, and return their paths."""
    with replacing(folder) as temporary:
        target = Milestone(temporary)
        target.audit.write_text(dumps(as_record(found), indent=1) + "\n")
        np.savez_compressed(target.trajectory, **as_arrays(found.filmed.trajectory))  # type: ignore[arg-type]
        written = [target.audit, target.trajectory, *audit_figures.draw(found, temporary)]
    return [folder / path.name for path in written]


def as_job(episodes: Episodes) -> dict[str, NDArray[Any]]:
    """Arrays from which another process can audit these episodes."""
    names = list(episodes.reward_terms)
    terms = [episodes.reward_terms[name] for name in names]
    return {
        "audit_seeds": episodes.seeds,
        "audit_lengths": np.array([len(actions) for actions in episodes.actions]),
        "audit_actions": np.concatenate([np.asarray(each) for each in episodes.actions]),
        "audit_returns": episodes.returns,
        "audit_terms": np.array(terms).reshape(len(names), len(episodes.seeds)),
        "audit_term_names": np.array(names, dtype=str),
    }


def from_job(arrays: Mapping[str, NDArray[Any]]) -> Episodes:
    """The episodes of `as_job`."""
    lengths = arrays["audit_lengths"]
    names = arrays["audit_term_names"].tolist()
    return Episodes(
        seeds=arrays["audit_seeds"],
        returns=arrays["audit_returns"],
        lengths=lengths,
        reward_terms=dict(zip(names, arrays["audit_terms"], strict=True)),
        actions=np.split(arrays["audit_actions"], np.cumsum(lengths)[:-1]),
    )


def make(
    arrays: Mapping[str, NDArray[Any]],
    task: Task,
    folder: Path,
    sensitive: bool,
    on_progress: Callable[[], None] = lambda: None,
) -> Audit | None:
    """Audit a milestone's episodes, and write the files into its folder.

    Args:
        arrays: of its job.
        task: of the episodes.
        folder: of the milestone, which has its policy.
        sensitive: measure the sensitivity, too.
        on_progress: called often.

    Returns:
        None if the task is not MuJoCo's; audit.json then says so.
    """
    episodes = from_job(arrays)
    tasks = changed_tasks(task)
    if isinstance(tasks, str):
        with replacing(folder) as temporary:
            Milestone(temporary).audit.write_text(dumps(why_not(tasks)) + "\n")
        return None
    seeds = episodes.seeds.tolist()
    varied = []
    if sensitive:
        policy = find_policy(folder).read()
        varied = sensitive_to.sensitivity(policy, task, tasks, seeds, lambda _: on_progress())
    found = audit_episodes(task, episodes, varied, on_progress)
    write(found, folder)
    return found


def changed_tasks(task: Task) -> dict[str, Task] | str:
    """The tasks of the sensitivity by the names of their changes, or why there is no audit."""
    env = task.make()
    try:
        if not has_model(env):
            return f"{task.env} is not a MuJoCo task, so there is nothing to audit"
        return sensitive_to.changed_tasks(task, env)
    finally:
        close(env)
