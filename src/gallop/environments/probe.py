"""A probe of a task: does its seed decide what it returns, and is anything else unusual?

Two environments of the task are reset with the same seed and given the same actions. They must
return the same, bit for bit; so must one in a new process. Without that, episodes of two policies
on "the same seed" are not pairs, and a training run cannot be repeated.

Training also resets without a seed, once an episode has ended. A task that then draws from a fresh
source of randomness can still be repeated, if every reset gets a seed (`SeededResets`).
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from gallop.answers import parsed, take_standard_output, tell
from gallop.environments.make import Task, task_keywords
from gallop.environments.spaces import Env, Space
from gallop.errors import ExperimentError, TaskError
from gallop.experiments import own_code, yaml_text
from gallop.experiments.task import package_of

N_TIMESTEPS = 20
SECONDS = 60.0  # for the new process, if the watchdog has no limit


class Trajectory(NamedTuple):
    """Hashes of what an environment returned, one per call of `reset` or `step`."""

    seeded: list[str]
    """From a reset with a seed on."""
    unseeded: list[str]
    """From a reset without a seed on, after that."""


class Probed(NamedTuple):
    """What the probe found out about a task."""

    ignores_seed: str = ""
    """Where environments that were reset with the same seed differ; empty if they do not."""
    fresh_entropy: bool = False
    """Whether they differ only after a reset without a seed."""
    seed_keyword: bool = False
    """Whether the task has a keyword argument `seed`, which may choose what `reset` does not."""
    unusual: tuple[str, ...] = ()
    """Other notes, one line each."""

    @property
    def note(self) -> str:
        """What a user should know; empty if all is well."""
        return "; ".join([*filter(None, [self.seed_note]), *self.unusual])

    @property
    def seed_note(self) -> str:
        """What the seed does not decide; empty if it decides everything."""
        if not self.ignores_seed:
            return ""
        hint = ", unless its keyword argument `seed` (--env-kwargs) fixes them" * self.seed_keyword
        return (
            f"episodes do not depend on the seed of reset() alone ({self.ignores_seed}): two "
            f"policies cannot be compared episode by episode, and no run can be repeated{hint}"
        )


def read_probed(record: object) -> Probed:
    """Convert JSON to what the probe found out; anything else to a task that behaves."""
    if not isinstance(record, Mapping):
        return Probed()
    return Probed(
        ignores_seed=str(record.get("ignores_seed", "")),
        fresh_entropy=record.get("fresh_entropy") is True,
        seed_keyword=record.get("seed_keyword") is True,
        unusual=tuple(map(str, record.get("unusual") or ())),
    )


_probed: dict[str, Probed] = {}


def probe(task: Task) -> Probed:
    """Find out whether a task's seed decides what it returns; once per process and task.

    Raises:
        ExperimentError: if the task cannot be made.
    """
    key = repr(task)
    if key not in _probed:
        _probed[key] = _probe(task)
    return _probed[key]


def _probe(task: Task) -> Probed:
    unusual: dict[str, None] = {}
    try:
        with _guarded(task) as one, _guarded(task) as other:
            _note_fixed(one.action_space, unusual)
            actions = _actions(one.action_space)
            first, second = (_play(env, actions, unusual) for env in (one, other))
    except TaskError as error:  # rare faults are for the run to report: they may not come again
        return Probed(unusual=(*unusual, f"with random actions, {error.problem}"))
    ignores = _where(first.seeded, second.seeded)
    if not ignores and package_of(task.env) != "gymnasium":
        elsewhere = _in_a_new_process(task)
        if elsewhere is not None and (where := _where(first.seeded, elsewhere)):
            ignores = f"in a new process, {where}"
    return Probed(
        ignores_seed=ignores,
        fresh_entropy=not ignores and first.unseeded != second.unseeded,
        seed_keyword="seed" in task_keywords(task.env) and "seed" not in task.kwargs,
        unusual=tuple(unusual),
    )


@contextlib.contextmanager
def _guarded(task: Task) -> Iterator[Env]:
    from gallop.environments.guard import Guard

    env = Guard(task.make(), task.env)
    try:
        yield env
    finally:
        env.close()


def _actions(space: Space) -> list[Any]:
    """Sample actions from a copy: some tasks replace their spaces at a reset."""
    space = copy.deepcopy(space)
    space.seed(0)
    return [space.sample() for _ in range(N_TIMESTEPS)]


def _play(env: Env, actions: Sequence[Any], unusual: dict[str, None]) -> Trajectory:
    """Play these actions after a reset with a seed, and again after one without."""
    parts: list[list[str]] = []
    for seeded in (True, False):
        found: list[str] = []
        seeds = count(1)

        def reset(seeded: bool = seeded, seeds: Iterator[int] = seeds) -> Any:
            return env.reset(seed=next(seeds) if seeded else None)[0]

        observation = reset()
        found.append(_hash(observation))
        for action in actions:
            _note_unusual(env.observation_space, observation, unusual)
            observation, reward, terminated, truncated, _ = env.step(copy.deepcopy(action))
            found.append(_hash([observation, reward, terminated, truncated]))
            if terminated or truncated:
                observation = reset()
                found.append(_hash(observation))
        parts.append(found)
    return Trajectory(*parts)


def _note_unusual(space: Space, observation: Any, unusual: dict[str, None]) -> None:
    """Note values outside of the observation space."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Dict):
        for key, part in space.spaces.items():
            _note_unusual(part, observation[key], unusual)
    if not isinstance(space, gymnasium.spaces.Box) or not isinstance(observation, np.ndarray):
        return
    if observation.dtype != space.dtype:
        unusual[f"observations are {observation.dtype}, in a space of {space.dtype}"] = None
    outside = (observation < space.low) | (observation > space.high)
    if outside.any():
        index = int(np.flatnonzero(outside.reshape(-1))[0])
        numbers = [
            float(array.reshape(-1)[index]) for array in (observation, space.low, space.high)
        ]
        # Rounded, a value just outside would read like the bound itself.
        short = [f"{number:g}" for number in numbers]
        value, low, high = map(repr, numbers) if short[0] in short[1:] else short
        told = [text for text in unusual if text.startswith("an observation is outside")]
        if not told:
            line = f"an observation is outside its space: {value} at index {index}, which has "
            unusual[line + f"{low} to {high}"] = None


def _note_fixed(space: Space, unusual: dict[str, None]) -> None:
    """Note actions that can have one value only."""
    import gymnasium

    if isinstance(space, gymnasium.spaces.Box):
        for index in np.flatnonzero((space.high == space.low).reshape(-1))[:1]:
            value = float(space.low.reshape(-1)[index])
            unusual[f"the action at index {index} has no range: it is always {value:g}"] = None


def _where(one: Sequence[str], other: Sequence[str]) -> str:
    """Where two trajectories begin to differ; empty if they are the same."""
    if one == other:
        return ""
    pairs = zip(one, other, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    if place == 0:
        return "two resets with seed 1 gave different observations"
    return f"after resets with seed 1, the same actions gave different results at call {place + 1}"


def _hash(value: Any) -> str:
    """Return a hash of nested dictionaries, sequences, arrays and numbers."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, Mapping):
            for key in sorted(value, key=str):
                digest.update(str(key).encode())
                add(value[key])
        elif isinstance(value, list | tuple):
            for each in value:
                add(each)
        elif isinstance(value, np.ndarray):
            digest.update(str((value.dtype, value.shape)).encode() + value.tobytes())
        else:
            digest.update(repr(value).encode())

    add(value)
    return digest.hexdigest()[:16]


# --- in a new process ----------------------------------------------------------------------------


def _in_a_new_process(task: Task) -> list[str] | None:
    """Return the seeded trajectory of a new process; None if the task cannot be made there.

    That is so for a task that is registered by the user's script.
    """
    described = {"env": task.env, "kwargs": dict(task.kwargs), "wrappers": list(task.wrappers)}
    command = [sys.executable, own_code.ISOLATED, "-m", "gallop.environments.probe"]
    try:
        done = subprocess.run(
            command,
            input=yaml_text.write(described).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=own_code.child_environment(),
            timeout=task.watchdog or SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired, ExperimentError, ValueError, TypeError):
        return None
    told = [answer["seeded"] for answer in parsed(done.stdout.splitlines()) if "seeded" in answer]
    return told[-1] if told else None


def main() -> None:
    """Play the task that standard input describes, and tell what it returned."""
    take_standard_output()
    described = yaml_text.read(sys.stdin.read())
    task = Task(described["env"], described["kwargs"], tuple(described["wrappers"]))
    with contextlib.suppress(ExperimentError, TaskError), _guarded(task) as env:
        tell(seeded=_play(env, _actions(env.action_space), {}).seeded)


if __name__ == "__main__":
    main()
