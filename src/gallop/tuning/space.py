"""Search spaces: what varies, in which range, and what a trial's values mean for an experiment.

Names are the hyper-parameters' own, or those that rl-baselines3-zoo searches with
(rl_zoo3/hyperparams_opt.py): `one_minus_gamma`, `batch_size_pow`, `net_arch: small` and so on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import Field, model_validator

from gallop.algorithms.hyperparameters import Hyperparameters, PolicyKwargs
from gallop.errors import ExperimentError, nearest
from gallop.experiments.settings import EXPERIMENTS, Algo
from gallop.fields import Float, Settings

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution


Value = bool | int | float | str | None
"""What Optuna stores of a parameter."""


class Parameter(Settings):
    """What one parameter may be: a range, choices, or a range around the last round's winner."""

    low: Float | None = None
    """Least value."""
    high: Float | None = None
    """Greatest value."""
    log: bool = False
    """Draw evenly in the logarithm."""
    step: Float | None = Field(default=None, gt=0)
    """Distance of allowed values, from low on."""
    choices: list[Any] | None = Field(default=None, min_length=1)
    """Values without an order."""
    around: tuple[Float, Float] | None = None
    """Factors: low and high as multiples of the last round's winner, inside the last range."""
    when: dict[str, Any] = Field(default={})
    """Values of parameters above (or lists of values) for which this one exists."""

    @model_validator(mode="before")
    @classmethod
    def _list_of_choices(cls, data: Any) -> Any:
        return {"choices": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _one_kind(self) -> Parameter:
        ranged = self.low is not None or self.high is not None
        if [ranged, self.choices is not None, self.around is not None].count(True) != 1:
            raise ValueError("one of a range (low, high), choices, or around is needed")
        if self.choices is not None:
            _check_choices(self.choices)
        if self.around is not None and not 0 < self.around[0] <= self.around[1]:
            raise ValueError(f"around {list(self.around)}: two rising factors above 0 are needed")
        if ranged:
            _check_range(self.low, self.high, self.log, self.step)
        return self


def _check_choices(choices: list[Any]) -> None:
    labels = set()
    for choice in choices:
        try:
            labels.add(_label(choice))
            plain = isinstance(choice, bool | int | float | str | list | dict | None)
        except (TypeError, ValueError, RecursionError):  # a list of dates, a set
            plain = False
        if not plain:
            raise ValueError(f"choice {choice!r} is no text, number, list or mapping")
    if len(labels) < len(choices):
        raise ValueError(f"choices {choices} hold a value twice")


def _check_range(low: float | None, high: float | None, log: bool, step: float | None) -> None:
    if low is None or high is None:
        raise ValueError("a range needs low and high")
    if low > high:
        raise ValueError(f"low {low:g} is above high {high:g}: swap them")
    if log and low <= 0:
        raise ValueError(f"low {low:g}: a logarithmic range begins above 0")
    if log and step is not None:
        raise ValueError("log and step exclude each other")


Space = dict[str, Parameter]


# --- names ---------------------------------------------------------------------------------------


class _Zoo(NamedTuple):
    """A name of the Zoo's for a hyper-parameter, and what its values mean."""

    target: str
    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]
    whole: bool


# Rounded to a decimal that a person would write: 1 − 0.01 is 0.99, not 0.99 and a bit.
_ONE_MINUS = (lambda x: round(1 - x, 12), lambda x: round(1 - x, 12), False)
_POWER = (lambda x: 2 ** int(x), lambda x: math.log2(x), True)
_ZOO = {
    "one_minus_gamma": _Zoo("gamma", *_ONE_MINUS),
    "one_minus_gae_lambda": _Zoo("gae_lambda", *_ONE_MINUS),
    "batch_size_pow": _Zoo("batch_size", *_POWER),
    "n_steps_pow": _Zoo("n_steps", *_POWER),
}
MAX_POWER = 40  # of two; more than that nothing has room for
_SCHEDULE, _SUBSAMPLE = "lr_schedule", "subsample_steps"  # they change another parameter's meaning
_SCHEDULES = ["constant", "linear"]
_OFF_POLICY_NETWORKS = {
    "small": [64, 64],
    "medium": [256, 256],
    "big": [400, 300],
    "large": [256, 256, 256],
    "verybig": [512, 512, 512],
}
NETWORKS: dict[str, dict[str, list[int]]] = {
    "sac": _OFF_POLICY_NETWORKS,
    "td3": _OFF_POLICY_NETWORKS,
    "ppo": {"tiny": [64], "small": [64, 64], "medium": [256, 256]},
}
"""The Zoo's names of hidden layers."""

# What SB3 takes where `policy_kwargs` says nothing.
_DEFAULT_NETWORKS = {"sac": [256, 256], "td3": [400, 300], "ppo": [64, 64]}
_DEFAULT_ACTIVATIONS = {"sac": "relu", "td3": "relu", "ppo": "tanh"}


def _model(algo: str) -> type[Hyperparameters]:
    default = EXPERIMENTS[algo].model_fields["hyperparameters"].default
    assert isinstance(default, Hyperparameters)
    return type(default)


def known_names(algo: Algo) -> list[str]:
    """Every name that a space of this algorithm may hold."""
    own = [name for name in _model(algo).model_fields if name != "policy_kwargs"]
    networks = list(PolicyKwargs.model_fields)
    zoo = [name for name, meaning in _ZOO.items() if meaning.target in own]
    more = [_SCHEDULE] if algo == "ppo" else [_SCHEDULE, _SUBSAMPLE]
    return [*own, *networks, *(f"policy_kwargs.{name}" for name in networks), *zoo, *more]


def target(name: str) -> str:
    """The dotted hyper-parameter that a name sets."""
    if name in _ZOO:
        return _ZOO[name].target
    if name == _SCHEDULE:
        return "learning_rate"
    if name == _SUBSAMPLE:
        return "gradient_steps"
    return f"policy_kwargs.{name}" if name in PolicyKwargs.model_fields else name


def _what(name: str) -> str:
    """What a name stands for: two names for one thing have the same."""
    if name == _SCHEDULE:
        return name
    return "utd" if target(name) == "gradient_steps" else target(name)


def beside(winner: Mapping[str, Value], values: Mapping[str, Value]) -> dict[str, Value]:
    """A trial's values, and those of the last round's winner that they leave as they were.

    >>> beside({"lr_schedule": "linear", "gamma": 0.9}, {"one_minus_gamma": 0.2})
    {'lr_schedule': 'linear', 'one_minus_gamma': 0.2}
    """
    taken = {_what(name) for name in values}
    kept = {name: value for name, value in winner.items() if _what(name) not in taken}
    return {**kept, **values}


def is_whole(algo: Algo, name: str) -> bool:
    """Whether the parameter's values are whole numbers."""
    if name in _ZOO:
        return _ZOO[name].whole
    kinds = _kinds(algo, name)
    return int in kinds and float not in kinds


def _kinds(algo: Algo, name: str) -> set[Any]:
    """Types that the hyper-parameter may have."""
    section, _, last = target(name).rpartition(".")
    model = PolicyKwargs if section else _model(algo)
    found, new = set(), {model.model_fields[last].annotation}
    while new:  # Annotated types of a union hold theirs inside
        found |= new
        new = {
            inner for kind in new for inner in get_args(kind) if get_origin(kind) is not Literal
        } - found
    return found


# --- from a trial's values to hyper-parameters ---------------------------------------------------


def hyperparameters(algo: Algo, values: Mapping[str, Value]) -> dict[str, Any]:
    """Nested hyper-parameters, as an experiment's file has them, of a trial's values.

    >>> hyperparameters("sac", {"one_minus_gamma": 0.02, "net_arch": "small"})
    {'gamma': 0.98, 'policy_kwargs': {'net_arch': [64, 64]}}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name in (_SCHEDULE, _SUBSAMPLE):
            continue
        meaning: Any = value
        if name in _ZOO:
            meaning = _ZOO[name].decode(value)
        elif isinstance(value, str) and value[:1] in ("[", "{"):
            meaning = json.loads(value)  # a choice that Optuna cannot hold as it is
        if target(name) == "policy_kwargs.net_arch" and isinstance(meaning, str):
            meaning = NETWORKS[algo].get(meaning, meaning)
        if name == "noise_type" and value is None:
            meaning = "none"
        section, _, last = target(name).rpartition(".")
        (found.setdefault(section, {}) if section else found)[last] = meaning
    if values.get(_SCHEDULE) == "linear" and "learning_rate" in found:
        found["learning_rate"] = f"lin_{found['learning_rate']!r}"
    if _SUBSAMPLE in values:
        every = int(found.get("train_freq", 1))
        found["gradient_steps"] = max(1, every // int(values[_SUBSAMPLE] or 1))
    return found


def _label(choice: Any) -> Value:
    """A choice as Optuna stores it: lists and mappings as JSON."""
    return json.dumps(choice) if isinstance(choice, list | dict) else choice


# --- from a space to Optuna ----------------------------------------------------------------------


def distribution(algo: Algo, name: str, parameter: Parameter) -> BaseDistribution:
    """Optuna's distribution of a parameter."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if parameter.choices is not None:
        return CategoricalDistribution([_label(choice) for choice in parameter.choices])
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None and high is not None, "`around` was narrowed to a range"
    if step is not None:
        high = low + _n_steps(low, high, step) * step
    if is_whole(algo, name):
        return IntDistribution(int(low), int(high), parameter.log, int(step or 1))
    return FloatDistribution(low, high, parameter.log, step)


def _n_steps(low: float, high: float, step: float) -> int:
    """Steps that fit into a range."""
    return math.floor((high - low) / step + 1e-9)


def exists(parameter: Parameter, values: Mapping[str, Value]) -> bool:
    """Whether a parameter exists beside the values of those above it."""
    for name, allowed in parameter.when.items():
        options = allowed if isinstance(allowed, list) else [allowed]
        if name not in values or values[name] not in [_label(option) for option in options]:
            return False
    return True


def suggest(trial: optuna.Trial, algo: Algo, space: Space) -> dict[str, Value]:
    """A value for each parameter that exists, in the order of the space."""
    from optuna.distributions import FloatDistribution, IntDistribution

    values: dict[str, Value] = {}
    for name, parameter in space.items():
        if not exists(parameter, values):
            continue
        d: Any = distribution(algo, name, parameter)
        if isinstance(d, FloatDistribution):
            values[name] = trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)
        elif isinstance(d, IntDistribution):
            values[name] = trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
        else:
            values[name] = trial.suggest_categorical(name, d.choices)
    return values


# --- first trials and later rounds ---------------------------------------------------------------


def defaults(
    algo: Algo, space: Space, given: Mapping[str, Any]
) -> tuple[dict[str, Value], list[str]]:
    """SB3's defaults (or what the experiment gives), moved to the nearest values of the space.

    Args:
        given: the experiment's own hyper-parameters, nested.

    Returns:
        The values, and what was moved: "gamma 0.99 → 0.995".
    """
    model = _model(algo).model_validate(dict(given))
    values: dict[str, Value] = {}
    moved = []
    for name, parameter in space.items():
        if not exists(parameter, values):
            continue
        default = _default(algo, name, model)
        values[name] = _nearest_value(algo, name, parameter, default)
        if default is not None and values[name] != _label(default):
            moved.append(f"{name} {_label(default)} → {values[name]}")
    return values, moved


def _default(algo: Algo, name: str, model: Hyperparameters) -> Any:
    """What a parameter of the space would be at SB3's default; None where it cannot say."""
    if name == _SCHEDULE:
        return "linear" if str(model.learning_rate).startswith("lin_") else "constant"
    if name == _SUBSAMPLE:
        return 1
    owner: Any = model
    for part in target(name).split("."):
        owner = getattr(owner, part)
    if target(name) == "policy_kwargs.net_arch":
        layers = owner or _DEFAULT_NETWORKS[algo]
        return next((word for word, sizes in NETWORKS[algo].items() if sizes == layers), layers)
    if target(name) == "policy_kwargs.activation_fn":
        return owner or _DEFAULT_ACTIVATIONS[algo]
    if isinstance(owner, str) and owner.startswith("lin_"):
        owner = float(owner.removeprefix("lin_"))
    return _ZOO[name].encode(owner) if name in _ZOO else owner


def _nearest_value(algo: Algo, name: str, parameter: Parameter, wanted: Any) -> Value:
    number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    if parameter.choices is not None:
        labels = [_label(choice) for choice in parameter.choices]
        if _label(wanted) in labels:
            return _label(wanted)
        if isinstance(wanted, str) and _label(NETWORKS[algo].get(wanted)) in labels:
            return _label(NETWORKS[algo][wanted])
        numbers = [x for x in labels if isinstance(x, int | float) and not isinstance(x, bool)]
        return min(numbers, key=lambda x: abs(x - wanted)) if number and numbers else labels[0]
    low, high = parameter.low, parameter.high
    assert low is not None and high is not None
    if not number:
        wanted = math.sqrt(low * high) if parameter.log else (low + high) / 2
    value = min(max(float(wanted), low), high)
    whole = is_whole(algo, name)
    step = parameter.step or (1 if whole else None)
    if step is not None:
        value = low + min(round((value - low) / step), _n_steps(low, high, step)) * step
    return int(value) if whole else value


def narrowed(space: Space, last: Space, winner: Mapping[str, Value]) -> Space:
    """A later round's space: each `around` as a range about the winner, inside the last one.

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
            assert before.low is not None and before.high is not None
            low, high = before.low, before.high
            if isinstance(value, int | float):  # the winner may lack a conditional one
                ends = sorted(value * factor for factor in parameter.around)
                low, high = (min(max(end, before.low), before.high) for end in ends)
            parameter = before.model_copy(update={"low": low, "high": high, "when": parameter.when})
        found[name] = parameter
    return found


# --- mistakes ------------------------------------------------------------------------------------


def check_names(algo: Algo, space: Space, last: Space | None) -> None:
    """Names, conditions and `around`, without drawing anything.

    Raises:
        ExperimentError: `field` is the parameter's name.
    """
    if not space:
        raise ExperimentError("a space needs at least one parameter")
    targets: dict[str, str] = {}
    for name, parameter in space.items():
        if name not in known_names(algo):
            hint = nearest(name, known_names(algo))
            raise ExperimentError(f"unknown parameter of {algo.upper()}; {hint}", name)
        other = targets.setdefault(_what(name), name)
        if other != name:
            raise ExperimentError(f"{name} and {other} are two names for {_what(name)}", name)
        _check_conditions(space, name)
        _check_values(algo, space, name)
        if parameter.around is not None:
            before = (last or {}).get(name)
            if before is None or before.choices is not None:
                raise ExperimentError(
                    "around needs a range of the same parameter in the round before", name
                )


def _check_conditions(space: Space, name: str) -> None:
    above = list(space)[: list(space).index(name)]
    for condition, allowed in space[name].when.items():
        if condition not in above:
            raise ExperimentError(
                f"when {condition}: only a parameter above it can be a condition; "
                f"{nearest(condition, above) if above else 'there is none'}",
                name,
            )
        choices = [_label(choice) for choice in space[condition].choices or []]
        for option in allowed if isinstance(allowed, list) else [allowed]:
            if choices and _label(option) not in choices:
                hint = nearest(str(option), [str(choice) for choice in choices])
                raise ExperimentError(f"when {condition}: {option!r} is no choice; {hint}", name)


def _check_values(algo: Algo, space: Space, name: str) -> None:
    """What an experiment cannot find wrong with a parameter's values."""
    parameter = space[name]
    if parameter.around is not None:
        return
    values = parameter.choices
    if values is None:
        _check_bounds(algo, name, parameter)
        values = [parameter.low, parameter.high]
    if name == _SCHEDULE:
        _check_schedules(space, values)
    elif name == _SUBSAMPLE:
        _check_whole(name, values, least=1)
    elif name in _ZOO and _ZOO[name].whole:
        _check_whole(name, values, least=0)
        _check_powers(name, values)


def _check_bounds(algo: Algo, name: str, parameter: Parameter) -> None:
    if is_whole(algo, name):
        for bound in (parameter.low, parameter.high, parameter.step):
            if bound is not None and not float(bound).is_integer():
                raise ExperimentError(f"{bound:g}: whole numbers are needed", name)
    if name not in _ZOO and bool in _kinds(algo, name):
        raise ExperimentError("it has no range; choices are needed: [true, false]", name)


def _check_schedules(space: Space, values: list[Any]) -> None:
    for value in values:
        if value not in _SCHEDULES:
            hint = nearest(str(value), _SCHEDULES)
            raise ExperimentError(f"{value!r} is no schedule; {hint}", _SCHEDULE)
    if "learning_rate" not in space:
        raise ExperimentError("it needs learning_rate in the same space", _SCHEDULE)


def _check_whole(name: str, values: list[Any], least: int) -> None:
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or value % 1 or value < least:
            raise ExperimentError(f"{value!r}: a whole number of at least {least} is needed", name)


def _check_powers(name: str, values: list[Any]) -> None:
    for value in values:
        if value > MAX_POWER:
            raise ExperimentError(f"{value:g}: at most {MAX_POWER} is possible", name)


def extremes(space: Space) -> list[tuple[str, Value]]:
    """Every choice and both ends of every range: what a search must be able to train."""
    found: list[tuple[str, Value]] = []
    for name, parameter in space.items():
        ends = parameter.choices or [parameter.low, parameter.high]
        found += [(name, _label(end)) for end in ends if parameter.around is None]
    return found
