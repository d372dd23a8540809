"""What a task is, beyond its id: enough to tell whether two returns are of the same task.

Keyword arguments, wrappers and an edited model file make another task of the same id. So may
another version of MuJoCo: since 3.5, contact margins add up, and Ant stands 10 mm higher.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gallop.environments.make import Task
from gallop.environments.robot_models import source_of
from gallop.environments.spaces import Env
from gallop.environments.task_errors import close
from gallop.experiments.task import package_of
from gallop.fields import plain


class Identity(NamedTuple):
    """A task, as its returns depend on it."""

    env: str
    env_kwargs: dict[str, Any]
    wrappers: list[dict[str, Any]]
    physics: dict[str, Any]
    """Changes of the simulator."""
    model_sha256: str
    """Of MuJoCo's compiled model, which depends on the version of MuJoCo; empty without one."""
    versions: dict[str, str]
    """Of the packages that simulate it."""


def identity_of(task: Task) -> Identity:
    """Make the task, and return what it is.

    Raises:
        ExperimentError: if it cannot be made.
    """
    env = task.make()
    try:
        return identity(task, env)
    finally:
        close(env)


def identity(task: Task, env: Env) -> Identity:
    """Return what a task is.

    Args:
        task: the task.
        env: one of its environments, which has not been stepped yet.
    """
    model = _model(env)
    packages = {"gymnasium", package_of(task.env), *(["mujoco"] if model is not None else [])}
    return Identity(
        env=task.env,
        env_kwargs=plain(dict(task.kwargs)),
        wrappers=[plain(dict(each)) for each in task.wrappers],
        physics={} if task.physics is None else task.physics.model_dump(exclude_none=True),
        model_sha256="" if model is None else _hash(model),
        versions={name: version for name in sorted(packages) if (version := _version(name))},
    )


def read_identity(record: object) -> Identity | None:
    """Convert JSON to an `Identity`; None if it is not one."""
    if not isinstance(record, Mapping):
        return None
    kinds = {"env": str, "env_kwargs": dict, "wrappers": list, "physics": dict}
    kinds |= {"model_sha256": str, "versions": dict}
    if not all(isinstance(record.get(name), kind) for name, kind in kinds.items()):
        return None
    return Identity(**{name: record[name] for name in Identity._fields})


def changes(before: Identity, now: Identity) -> list[str]:
    """Say what has changed around a task: versions and model, but not its arguments."""
    if now.physics != before.physics:  # then the model has to differ
        now = now._replace(model_sha256=before.model_sha256)
    env_kwargs, wrappers, physics = before.env_kwargs, before.wrappers, before.physics
    now = now._replace(env_kwargs=env_kwargs, wrappers=wrappers, physics=physics)
    return differences(before, now)


def differences(ours: Identity, theirs: Identity) -> list[str]:
    """Say what differs between two tasks: our value, then theirs; empty for the same task."""
    if ours.env != theirs.env:
        return [f"{ours.env} and {theirs.env}"]
    found = []
    versions = sorted(ours.versions | theirs.versions)
    for name in versions:
        one, other = (each.versions.get(name, "none") for each in (ours, theirs))
        if one != other:
            found.append(f"{name} {one} and {other}")
    same_model = bool(ours.model_sha256) and ours.model_sha256 == theirs.model_sha256
    for name in sorted(ours.env_kwargs | theirs.env_kwargs, key=str):
        one, other = (each.env_kwargs.get(name, "default") for each in (ours, theirs))
        if repr(one) != repr(other) and not (same_model and _is_model(one) and _is_model(other)):
            found.append(f"{name} {one} and {other}")
    if repr(ours.wrappers) != repr(theirs.wrappers):
        one, other = (_names(each.wrappers) for each in (ours, theirs))
        found.append(f"wrappers {one} and {other}")
    if ours.physics != theirs.physics:
        found.append(f"physics {ours.physics or 'as it is'} and {theirs.physics or 'as it is'}")
    if ours.model_sha256 != theirs.model_sha256 and not found:
        found.append("another model (the file has changed)")
    return found


def _model(env: Env) -> Any:
    """MuJoCo's model of an environment; None if it has none."""
    if "mujoco" not in sys.modules:
        return None
    from mujoco import MjModel

    model = getattr(env.unwrapped, "model", None)
    return model if isinstance(model, MjModel) else None


def _hash(model: Any) -> str:
    import mujoco

    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.sha256(content.tobytes()).hexdigest()


@functools.cache
def _version(package: str) -> str:
    """The version of the distribution that a package comes from; empty if it is not known."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        if not _is_installed(package):
            return ""
        # The distribution has another name. To find it, all of them are read: half a second.
        names = importlib.metadata.packages_distributions().get(package, [])
        return importlib.metadata.version(names[0]) if names else ""


def _is_installed(package: str) -> bool:
    """Whether a package is one that pip has installed, and not a file of the user's."""
    spec = importlib.util.find_spec(package)
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    return spec is not None and str(spec.origin).startswith(tuple(folders))


def _is_model(value: object) -> bool:
    return isinstance(value, str) and bool(source_of(value) or Path(value).is_absolute())


def _names(wrappers: list[dict[str, Any]]) -> str:
    return ", ".join(name for each in wrappers for name in each) or "none"
