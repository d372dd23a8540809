"""An audit: episodes played, recorded, measured and judged.

Order of reading: recorder.py makes what trajectory.py describes, anatomy.py names parts,
posture.py, contact.py, toes.py, actuation.py, energy.py and rewards.py measure, findings.py judges,
sensitivity.py changes the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gallop.environments.make import Task
from gallop.environments.spaces import Env
from gallop.environments.task_errors import close
from gallop.errors import ExperimentError
from gallop.evaluation.audit.anatomy import Anatomy, anatomy
from gallop.evaluation.audit.contact import (
    at_the_feet,
    bodies_on_floor,
    in_contact,
    intervals,
    label,
    normal_forces,
    of_the_robot,
)
from gallop.evaluation.audit.findings import (
    EXPLOIT,
    Finding,
    Measures,
    exploit,
    findings,
    measure,
)
from gallop.evaluation.audit.posture import pitch
from gallop.evaluation.audit.recorder import recording
from gallop.evaluation.audit.rewards import Rewards, rewards
from gallop.evaluation.audit.sensitivity import HALF_STEP, Change
from gallop.evaluation.audit.trajectory import Trajectory
from gallop.evaluation.episodes import Episodes
from gallop.policies.policy import Array

FORMAT = 1


class Audited(NamedTuple):
    """One episode."""

    seed: int
    return_: float
    length: int
    trajectory: Trajectory
    measures: Measures
    rewards: Rewards
    findings: list[Finding]


class Audit(NamedTuple):
    """The audit of a policy."""

    parts: Anatomy
    episodes: list[Audited]
    changes: list[Change]
    """The sensitivity; empty if it was not asked for."""

    @property
    def filmed(self) -> Audited:
        """The episode that is filmed and drawn: the first with a finite return."""
        finite = (each for each in self.episodes if np.isfinite(each.return_))
        return next(finite, self.episodes[0])


def why_no_audit(task: Task, env: Env) -> str:
    """Why a task's policies cannot be audited; empty if they can.

    Args:
        task: the task.
        env: one of its environments.
    """
    simulator: Any = env.unwrapped
    model, data = (getattr(simulator, name, None) for name in ("model", "data"))
    if not is_mujoco(model, data):
        return f"{task.env} is not a MuJoCo task, so there is nothing to audit"
    try:
        anatomy(model)
    except ValueError as error:
        return f"{task.env} cannot be audited: {error}"
    return ""


def is_mujoco(model: object, data: object) -> bool:
    """Whether these are MuJoCo's: attributes of other tasks may have the same names."""
    if model is None or data is None:
        return False
    import mujoco

    return isinstance(model, mujoco.MjModel) and isinstance(data, mujoco.MjData)


def audit_episodes(
    task: Task,
    episodes: Episodes,
    changes: Sequence[Change] = (),
    on_episode: Callable[[], None] = lambda: None,
) -> Audit:
    """Replay episodes, record every physics step, and measure them.

    Args:
        task: of the episodes.
        episodes: with their actions.
        changes: the sensitivity, if it was measured.
        on_episode: called after each.

    Raises:
        ExperimentError: if the task is not MuJoCo's, or an episode cannot be repeated.
    """
    env = task.make()
    try:
        if reason := why_no_audit(task, env):
            raise ExperimentError(reason)
        parts = anatomy(env.unwrapped.model)  # type: ignore[attr-defined]
        found = []
        for index, seed in enumerate(episodes.seeds.tolist()):
            trajectory = replayed(
                env, seed, episodes.actions[index], float(episodes.returns[index])
            )
            trajectory = at_the_feet(of_the_robot(trajectory, parts), parts)
            terms = {name: float(sums[index]) for name, sums in episodes.reward_terms.items()}
            measures = measure(trajectory, parts)
            found.append(
                Audited(
                    seed,
                    float(episodes.returns[index]),
                    int(episodes.lengths[index]),
                    trajectory,
                    measures,
                    rewards(trajectory, parts, terms),
                    findings(trajectory, parts, measures),
                )
            )
            on_episode()
        return Audit(parts, found, list(changes))
    finally:
        close(env)


def replayed(env: Env, seed: int, actions: Array, expected: float) -> Trajectory:
    """Play an episode again, and record every physics step.

    Args:
        env: of its task.
        seed: of its initial state.
        actions: of each timestep, shape [length, ...].
        expected: its return.

    Raises:
        ExperimentError: if the replay has another return, or no physics step was seen.
    """
    with recording(env) as recorder:
        env.reset(seed=seed)
        recorder.clear()
        total = 0.0
        for action in actions:
            total += float(env.step(action.item() if action.ndim == 0 else action)[1])
        if total != expected and not (np.isnan(total) and np.isnan(expected)):
            raise ExperimentError(
                f"the episode of seed {seed} returns {total!r} when it is repeated, instead of "
                f"{expected!r}: the task has more randomness than its seed"
            )
        trajectory = recorder.trajectory()
    if not trajectory.n:
        raise ExperimentError(
            "the task does not take its physics steps with mujoco.mj_step, so none was recorded"
        )
    # A task may take the steps of a timestep one by one, or a wrapper may repeat actions.
    per_timestep = max(1, round(trajectory.n / len(actions)))
    return trajectory._replace(n_per_timestep=per_timestep)


def as_record(found: Audit) -> dict[str, Any]:
    """The audit as JSON: audit.json."""
    return {
        "format": FORMAT,
        "robot": {
            "mass": found.parts.mass,
            "height": found.parts.height,
            "feet": [foot.name for foot in found.parts.feet],
        },
        "findings": summary(found),
        "episodes": [
            {
                "seed": each.seed,
                "return": each.return_,
                "length": each.length,
                **{name: _plain(part) for name, part in each.measures._asdict().items()},
                "rewards": _plain(each.rewards),
                "findings": [_plain(finding) for finding in each.findings],
            }
            for each in found.episodes
        ],
        "sensitivity": [
            {"change": each.name, "returns": _plain(each.returns), "why_not": each.why_not}
            for each in found.changes
        ],
        "filmed": _filmed(found),
    }


def why_not(reason: str) -> dict[str, Any]:
    """The content of audit.json where there is nothing to audit."""
    return {"format": FORMAT, "why_not": reason}


def _filmed(found: Audit) -> dict[str, Any]:
    """What a page draws beside the film: contacts of each body, and pitch at each timestep."""
    audited, parts = found.filmed, found.parts
    trajectory = audited.trajectory
    angles = np.degrees(pitch(trajectory, parts))[:: trajectory.n_per_timestep]
    return {
        "seed": audited.seed,
        "dt": trajectory.dt * trajectory.n_per_timestep,
        "contacts": {
            label(parts, body): _plain(
                intervals(in_contact(normal_forces(trajectory, body), parts), trajectory.dt)
            )
            for body in bodies_on_floor(trajectory, parts)
        },
        "pitch": _plain(np.round(angles, 1)),
    }


def summary(found: Audit) -> list[dict[str, Any]]:
    """Each finding once, with the number of episodes that show it and the first one's details.

    Half the physics step, if it was tried, says more of a simulator exploit than the energy does,
    and replaces what that says.
    """
    shown: dict[str, list[tuple[int, Finding]]] = {}
    for audited in found.episodes:
        for each in audited.findings:
            shown.setdefault(each.name, []).append((audited.seed, each))
    half = [each.returns for each in found.changes
            if each.name == HALF_STEP and np.isfinite(each.returns).all()]  # fmt: skip
    if half:
        shown.pop(EXPLOIT, None)
        judged = exploit(np.array([each.return_ for each in found.episodes]), half[0])
        if judged is not None:
            shown = {EXPLOIT: [(each.seed, judged) for each in found.episodes]} | shown
    rows = []
    for name, of_episodes in shown.items():
        seed, first = of_episodes[0]
        rows.append(
            {
                "name": name,
                "kind": first.kind,
                "episodes": len(of_episodes),
                "of": len(found.episodes),
                "rule": first.rule,
                "measured": first.measured,
                "evidence": first.evidence,
                "seed": seed,
                "seconds": [list(span) for span in first.seconds],
            }
        )
    return sorted(rows, key=lambda row: row["kind"] != "warning")


def _plain(value: Any) -> Any:
    """Named tuples as dictionaries, arrays and tuples as lists, and null for what is not finite."""
    if isinstance(value, float | np.floating) and not np.isfinite(value):
        return None
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value
