"""Search spaces: sampling with Optuna, SB3's defaults within them, spaces of later rounds."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel

from gallop.algorithms.hyperparameters import Hyperparameters
from gallop.algorithms.spec import AlgorithmSpec, imported
from gallop.algorithms.table import ALGORITHMS
from gallop.tuning.names import NET_ARCH, SCHEDULE, SUBSAMPLE, ZOO, is_whole, target
from gallop.tuning.parameter import Parameter, Space, Value, label, options

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )


# --- from a space to Optuna ----------------------------------------------------------------------


def distribution(
    algo: str, name: str, parameter: Parameter
) -> CategoricalDistribution | FloatDistribution | IntDistribution:
    """Return Optuna's distribution of a parameter."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if parameter.choices is not None:
        return CategoricalDistribution(parameter.labels)
    (low, high), step = parameter.range, parameter.step
    if step is not None:
        high = low + _n_steps(low, high, step) * step
    if is_whole(algo, name):
        return IntDistribution(int(low), int(high), parameter.log, int(step or 1))
    return FloatDistribution(low, high, parameter.log, step)


def _n_steps(low: float, high: float, step: float) -> int:
    """Return how many steps fit into a range."""
    return math.floor((high - low) / step + 1e-9)


def exists(parameter: Parameter, values: Mapping[str, Value]) -> bool:
    """Return whether a parameter exists, given the values of earlier ones."""
    return all(
        name in values and values[name] in options(allowed)
        for name, allowed in parameter.when.items()
    )


def suggest(trial: optuna.Trial, algo: str, space: Space) -> dict[str, Value]:
    """Sample a value for each parameter that exists, in the order of the space."""
    from optuna.distributions import FloatDistribution, IntDistribution

    values: dict[str, Value] = {}
    for name, parameter in space.items():
        if not exists(parameter, values):
            continue
        d = distribution(algo, name, parameter)
        if isinstance(d, FloatDistribution):
            values[name] = trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)
        elif isinstance(d, IntDistribution):
            values[name] = trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
        else:
            values[name] = trial.suggest_categorical(name, d.choices)
    return values


# --- first trials and later rounds ---------------------------------------------------------------


def defaults(
    algo: str, space: Space, given: Mapping[str, object]
) -> tuple[dict[str, Value], list[str]]:
    """Return SB3's defaults, or the experiment's values, moved to the nearest ones in the space.

    Args:
        algo: name of the algorithm.
        space: the search space.
        given: the hyper-parameters that the experiment sets, nested.

    Returns:
        The values, and the changes, such as "gamma 0.99 → 0.995".
    """
    model = ALGORITHMS[algo].hyperparameters.model_validate(dict(given))
    values: dict[str, Value] = {}
    moved = []
    for name, parameter in space.items():
        if not exists(parameter, values):
            continue
        default = _default(algo, name, parameter, model)
        values[name] = _nearest_value(algo, name, parameter, default)
        if default is not None and values[name] != label(default):
            moved.append(f"{name} {label(default)} → {values[name]}")
    return values, moved


def _default(algo: str, name: str, parameter: Parameter, model: Hyperparameters) -> object:
    """Return SB3's default of a parameter of the space; None if it cannot be expressed."""
    if name == SCHEDULE:
        return "linear" if str(model.learning_rate).startswith("lin_") else "constant"
    if name == SUBSAMPLE:
        return 1
    value: object = model
    for part in target(name).split("."):
        value = getattr(value, part)
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_none=True)
    if target(name) == NET_ARCH:
        spec = ALGORITHMS[algo]
        layers = value or spec.default_net_arch
        return next((w for w, sizes in spec.network_words.items() if sizes == layers), layers)
    if target(name) == "policy_kwargs.activation_fn":
        return value or ALGORITHMS[algo].default_activation
    section, _, last = target(name).rpartition(".")
    if section and value is None:
        return _default_of_policy_class(ALGORITHMS[algo], last)
    if name == "noise_type" and value == "none" and None in parameter.labels:
        return None  # the Zoo's word for it
    if isinstance(value, str) and value.startswith("lin_"):
        value = float(value.removeprefix("lin_"))
    return ZOO[name].encode(value) if name in ZOO and isinstance(value, int | float) else value


def _default_of_policy_class(spec: AlgorithmSpec, name: str) -> object:
    """Return a default of SB3's policy class, for what `policy_kwargs` does not set; or None."""
    parameters = inspect.signature(imported(spec.networks.policy_classes[0])).parameters
    default: object = parameters[name].default if name in parameters else None
    return default if isinstance(default, bool | int | float) else None


def _nearest_value(algo: str, name: str, parameter: Parameter, wanted: object) -> Value:
    number = None
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        number = wanted
    if parameter.choices is not None:
        return _nearest_choice(algo, name, parameter.labels, wanted, number)
    low, high = parameter.range
    if number is None:
        number = math.sqrt(low * high) if parameter.log else (low + high) / 2
    value = min(max(float(number), low), high)
    whole = is_whole(algo, name)
    step = parameter.step or (1 if whole else None)
    if step is not None:
        value = low + min(round((value - low) / step), _n_steps(low, high, step)) * step
    return int(value) if whole else value


def _nearest_choice(
    algo: str, name: str, labels: list[Value], wanted: object, number: float | None
) -> Value:
    if label(wanted) in labels:
        return label(wanted)
    if target(name) == NET_ARCH and isinstance(wanted, str):
        layers = label(ALGORITHMS[algo].network_words.get(wanted))
        if layers in labels:
            return layers
    numbers = [x for x in labels if isinstance(x, int | float) and not isinstance(x, bool)]
    if number is None or not numbers:
        return labels[0]
    return min(numbers, key=lambda x: abs(x - number))


def narrowed(space: Space, last: Space, winner: Mapping[str, Value]) -> Space:
    """Return a later round's space: each `around` becomes a range within the previous one.

    >>> last = {"learning_rate": Parameter(low=1e-4, high=3e-3, log=True)}
    >>> space = {"learning_rate": Parameter(around=(0.5, 4.0))}
    >>> found = narrowed(space, last, {"learning_rate": 1e-3})["learning_rate"]
    >>> found.low, found.high, found.log
    (0.0005, 0.003, True)
    """
    found = {}
    for name, parameter in space.items():
        if parameter.around is not None:
            before, value = last[name], winner.get(name)
            low, high = least, greatest = before.range
            if isinstance(value, int | float):  # the winner may lack a conditional parameter
                ends = sorted(value * factor for factor in parameter.around)
                low, high = (min(max(end, least), greatest) for end in ends)
            parameter = before.model_copy(update={"low": low, "high": high, "when": parameter.when})
        found[name] = parameter
    return found


def extremes(space: Space) -> list[tuple[str, Value]]:
    """Return every choice and both ends of every range: all of them must be valid settings."""
    found: list[tuple[str, Value]] = []
    for name, parameter in space.items():
        ends = parameter.labels or [parameter.low, parameter.high]
        found += [(name, end) for end in ends if parameter.around is None]
    return found
