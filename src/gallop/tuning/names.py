"""The names in a search space, and conversion of a trial's values to hyper-parameters.

Names are the hyper-parameters' own, or those that rl-baselines3-zoo uses in its searches
(rl_zoo3/hyperparams_opt.py): `one_minus_gamma`, `batch_size_pow`, `net_arch: small` and others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, get_args, get_origin

from gallop.algorithms.table import ALGORITHMS
from gallop.tuning.parameter import Value


class _Zoo(NamedTuple):
    """One of the Zoo's names for a hyper-parameter, with conversions of its values."""

    target: str
    decode: Callable[[float], float]
    encode: Callable[[float], float]
    whole: bool


def _one_minus(x: float) -> float:
    """Return 1 − x without rounding errors: 1 − 0.01 is exactly 0.99."""
    return round(1 - x, 12)


def _power_of_two(x: float) -> int:
    power: int = 2 ** int(x)
    return power


ZOO = {
    "one_minus_gamma": _Zoo("gamma", _one_minus, _one_minus, False),
    "one_minus_gae_lambda": _Zoo("gae_lambda", _one_minus, _one_minus, False),
    "batch_size_pow": _Zoo("batch_size", _power_of_two, math.log2, True),
    "n_steps_pow": _Zoo("n_steps", _power_of_two, math.log2, True),
}
SCHEDULE, SUBSAMPLE = "lr_schedule", "subsample_steps"  # they modify another hyper-parameter
SCHEDULES = ["constant", "linear"]
NET_ARCH = "policy_kwargs.net_arch"
_POLICY_KWARGS = {n for spec in ALGORITHMS.values() for n in spec.policy_kwargs.model_fields}


def known_names(algo: str) -> list[str]:
    """Return every name that is allowed in a search space of this algorithm."""
    spec = ALGORITHMS[algo]
    own = [name for name in spec.hyperparameters.model_fields if name != "policy_kwargs"]
    inner = list(spec.policy_kwargs.model_fields)
    zoo = [name for name, meaning in ZOO.items() if meaning.target in own]
    more = [name for name in (SCHEDULE, SUBSAMPLE) if target(name) in own]
    return [*own, *inner, *(f"policy_kwargs.{name}" for name in inner), *zoo, *more]


def target(name: str) -> str:
    """Return the dotted name of the hyper-parameter that a name sets."""
    if name in ZOO:
        return ZOO[name].target
    if name == SCHEDULE:
        return "learning_rate"
    if name == SUBSAMPLE:
        return "gradient_steps"
    return f"policy_kwargs.{name}" if name in _POLICY_KWARGS else name


def subject(name: str) -> str:
    """Return what a name sets: two names for the same setting give the same subject."""
    if name == SCHEDULE:
        return name
    return "utd" if target(name) == "gradient_steps" else target(name)


def merged(winner: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Value]:
    """Combine a trial's values with those of the last round's winner that they do not replace.

    >>> merged({"lr_schedule": "linear", "gamma": 0.9}, {"one_minus_gamma": 0.2})
    {'lr_schedule': 'linear', 'one_minus_gamma': 0.2}
    """
    taken = {subject(name) for name in values}
    kept = {name: value for name, value in winner.items() if subject(name) not in taken}
    return {**kept, **values}


def is_whole(algo: str, name: str) -> bool:
    """Return whether the parameter's values are whole numbers."""
    if name in ZOO:
        return ZOO[name].whole
    kinds = kinds_of(algo, name)
    return int in kinds and float not in kinds


def kinds_of(algo: str, name: str) -> set[object]:
    """Return the types that the hyper-parameter may have."""
    section, _, last = target(name).rpartition(".")
    spec = ALGORITHMS[algo]
    model = spec.policy_kwargs if section else spec.hyperparameters
    found: set[object] = set()
    new: set[object] = {model.model_fields[last].annotation}
    while new:  # a union's annotated types are nested
        found |= new
        new = {
            inner for kind in new for inner in get_args(kind) if get_origin(kind) is not Literal
        } - found
    return found


def hyperparameters(algo: str, values: Mapping[str, Value]) -> dict[str, object]:
    """Convert a trial's values to nested hyper-parameters, as in an experiment's file.

    >>> hyperparameters("sac", {"one_minus_gamma": 0.02, "net_arch": "small"})
    {'gamma': 0.98, 'policy_kwargs': {'net_arch': [64, 64]}}
    """
    found: dict[str, object] = {}
    policy_kwargs: dict[str, object] = {}
    for name, value in values.items():
        if name in (SCHEDULE, SUBSAMPLE):
            continue
        section, _, last = target(name).rpartition(".")
        if section:
            found[section] = policy_kwargs
        (policy_kwargs if section else found)[last] = _meaning(algo, name, value)
    if values.get(SCHEDULE) == "linear" and "learning_rate" in found:
        found["learning_rate"] = f"lin_{found['learning_rate']!r}"
    if SUBSAMPLE in values:
        every = _whole(found.get("train_freq", 1))
        found["gradient_steps"] = max(1, every // _whole(values[SUBSAMPLE] or 1))
    return found


def _meaning(algo: str, name: str, value: Value) -> object:
    """Convert a value to that of the hyper-parameter itself."""
    if name in ZOO:
        if not isinstance(value, int | float):
            raise TypeError("must be a number")
        return ZOO[name].decode(value)
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return json.loads(value)  # a choice that Optuna cannot hold as it is
    if target(name) == NET_ARCH and isinstance(value, str):
        return ALGORITHMS[algo].network_words.get(value, value)
    return "none" if name == "noise_type" and value is None else value


def _whole(value: object) -> int:
    if not isinstance(value, int | float | str):
        raise TypeError("must be a whole number")
    return int(value)
