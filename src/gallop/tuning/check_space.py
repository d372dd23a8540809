"""Mistakes in a search space that can be found without drawing or training anything."""

from __future__ import annotations

from collections.abc import Sequence

from gallop.errors import ExperimentError, nearest
from gallop.tuning.names import (
    SCHEDULE,
    SCHEDULES,
    SUBSAMPLE,
    ZOO,
    is_whole,
    kinds_of,
    known_names,
    subject,
)
from gallop.tuning.parameter import Parameter, Space, label

MAX_POWER = 40  # of two; more than that nothing has room for


def check_names(algo: str, space: Space, last: Space | None) -> None:
    """Names, conditions and `around`.

    Raises:
        ExperimentError: `field` is the parameter's name.
    """
    if not space:
        raise ExperimentError("a space needs at least one parameter")
    subjects: dict[str, str] = {}
    for name, parameter in space.items():
        if name not in known_names(algo):
            hint = nearest(name, known_names(algo))
            raise ExperimentError(f"unknown parameter of {algo.upper()}; {hint}", name)
        other = subjects.setdefault(subject(name), name)
        if other != name:
            raise ExperimentError(f"{name} and {other} are two names for {subject(name)}", name)
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
        choices = space[condition].labels
        for option in allowed if isinstance(allowed, list) else [allowed]:
            if choices and label(option) not in choices:
                hint = nearest(str(option), [str(choice) for choice in choices])
                raise ExperimentError(f"when {condition}: {option!r} is no choice; {hint}", name)


def _check_values(algo: str, space: Space, name: str) -> None:
    """What an experiment cannot find wrong with a parameter's values."""
    parameter = space[name]
    if parameter.around is not None:
        return
    values: Sequence[object] | None = parameter.choices
    if values is None:
        _check_bounds(algo, name, parameter)
        values = [parameter.low, parameter.high]
    if name == SCHEDULE:
        _check_schedules(space, values)
    elif name == SUBSAMPLE:
        _check_whole(name, values, least=1)
    elif name in ZOO and ZOO[name].whole:
        _check_whole(name, values, least=0, greatest=MAX_POWER)


def _check_bounds(algo: str, name: str, parameter: Parameter) -> None:
    if is_whole(algo, name):
        for bound in (parameter.low, parameter.high, parameter.step):
            if bound is not None and not float(bound).is_integer():
                raise ExperimentError(f"{bound:g}: whole numbers are needed", name)
    if name not in ZOO and bool in kinds_of(algo, name):
        raise ExperimentError("it has no range; choices are needed: [true, false]", name)


def _check_schedules(space: Space, values: Sequence[object]) -> None:
    for value in values:
        if value not in SCHEDULES:
            hint = nearest(str(value), SCHEDULES)
            raise ExperimentError(f"{value!r} is no schedule; {hint}", SCHEDULE)
    if "learning_rate" not in space:
        raise ExperimentError("it needs learning_rate in the same space", SCHEDULE)


def _check_whole(
    name: str, values: Sequence[object], least: int, greatest: int | None = None
) -> None:
    for value in values:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or value % 1
            or value < least
        ):
            raise ExperimentError(f"{value!r}: a whole number of at least {least} is needed", name)
        if greatest is not None and value > greatest:
            raise ExperimentError(f"{value:g}: at most {greatest} is possible", name)
