"""Tasks by id, from Gymnasium's registry."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gallop.errors import ExperimentError, described, did_you_mean, nearest
from gallop.experiments import own_code, packages

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

UNLIMITED_EPISODE_TIMESTEPS = 1_000  # assumed for tasks without a time limit
LEAST_CUT = 10_000  # timesteps: evaluations cut no episode earlier


def cut_after(time_limit: int | None) -> int:
    """Timesteps after which an evaluation cuts an episode: ten times the task's own limit.

    >>> cut_after(None), cut_after(1_000), cut_after(50_000)
    (10000, 10000, 500000)
    """
    return max(LEAST_CUT, 10 * (time_limit or 0))


def task_spec(env: str) -> EnvSpec:
    """Gymnasium's specification of a task. If the id names a module, it is imported first.

    Raises:
        ExperimentError: if the task is not registered, with the nearest names.
    """
    import gymnasium

    module, _, name = env.rpartition(":")
    if module:
        _gymnasiums_own()
        try:
            own_code.import_module(module)
        except (Exception, SystemExit) as error:  # custom code may raise anything
            if right := own_code.module_of_file(module):
                raise ExperimentError(f"{env!r}: leave out .py: {right}:{name}", "env") from None
            missing = isinstance(error, ModuleNotFoundError) and (
                f"{module}.".startswith(f"{error.name}.")
            )
            hint = packages.how_to_install(module) if missing else ""
            if "mujoco" in str(error) and not missing:
                hint = packages.about_mujoco().removeprefix("; ")
            raise ExperimentError(
                f"{env!r}: {module!r} cannot be imported: {described(error)}{'; ' * bool(hint)}"
                f"{hint}",
                "env",
            ) from None
    try:
        spec = gymnasium.spec(name)
    except (gymnasium.error.Error, ValueError):
        hint = _hint(module, name, gymnasium.registry)
        raise ExperimentError(f"{env!r} is not registered in Gymnasium; {hint}", "env") from None
    if getattr(spec.entry_point, "__name__", "") == OLD_TASK:
        newest = _newest(name, gymnasium.registry)
        raise ExperimentError(
            f"{env!r} needs mujoco-py and is no longer a part of Gymnasium: use {newest}, its "
            "present version",
            "env",
        )
    if spec.entry_point is None:
        raise ExperimentError(
            f"{env!r} is registered for gymnasium.make_vec alone, which makes many environments "
            "in one; Gallop needs single ones",
            "env",
        )
    if module.partition(".")[0] not in ("", "gymnasium") and name in _gymnasiums_own():
        raise ExperimentError(
            f"{env!r}: {module} does not register {name} with Gymnasium, whose own task of that "
            f"name would be trained; {name} alone names that one",
            "env",
        )
    return spec


OLD_TASK = "_raise_mujoco_py_error"  # Gymnasium's function that is registered instead of a class


@functools.cache
def _gymnasiums_own() -> frozenset[str]:
    """The ids that Gymnasium itself registers, before any other package is imported."""
    import gymnasium

    own = {name: _module_of(spec) for name, spec in gymnasium.registry.items()}
    return frozenset(name for name, module in own.items() if module.startswith("gymnasium."))


def _newest(name: str, registry: Mapping[str, EnvSpec]) -> str:
    """The id of the same task with the highest version; empty if there is none."""
    stem, _, _ = name.rpartition("-v")
    versions = [int(key.rpartition("-v")[2]) for key in registry
                if re.fullmatch(rf"{re.escape(stem)}-v\d+", key)]  # fmt: skip
    return f"{stem}-v{max(versions)}" if versions else ""


def package_of(env: str) -> str:
    """The package of a task's class or function: "gymnasium" for Gymnasium's own."""
    return _module_of(task_spec(env)).partition(".")[0]


_VERY_CLOSE = 0.8  # similarity from which a name is surely meant


def _hint(module: str, name: str, registry: Mapping[str, EnvSpec]) -> str:
    """Return the end of an error message: the nearest tasks, or how to name a custom one."""
    known = [key for key in registry if not key.startswith(("GymV", "phys2d"))]
    if module:
        package = module.partition(".")[0]
        owners = {key: _module_of(registry[key]).partition(".")[0] for key in known}
        found = packages.package_for(name)
        if found and found.module != module and found.module.startswith(f"{package}."):
            return f"{found.module} registers it: {found.module}:{name}"
        own = [key for key in known if owners[key] == package]
        own = own or [key for key in known if owners[key] != "gymnasium"]
        if own:
            return nearest(f"{module}:{name}", [f"{module}:{key}" for key in own])
        return f"importing {module!r} does not register it"
    if known_package := packages.how_to_import(name):
        return known_package
    hint = did_you_mean(name, known)
    if did_you_mean(name, known, _VERY_CLOSE):
        return hint
    own_id = name if re.fullmatch(r"[\w-]+-v\d+", name) else "Name-v0"
    way = f"environment of your own needs its module: MODULE:{own_id}"
    return f"{hint} An {way}" if hint else f"an {way}"


def _module_of(spec: EnvSpec) -> str:
    """The module of a task's class or function."""
    made_by = spec.entry_point
    while isinstance(made_by, functools.partial):
        made_by = made_by.func
    if isinstance(made_by, str):
        return made_by.partition(":")[0]
    return str(getattr(made_by, "__module__", ""))
