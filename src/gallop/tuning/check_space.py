"""Checks of a search space that need neither sampling nor training."""

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

MAX_POWER = 40  # of two; nothing larger fits into memory


def check_names(algo: str, space: Space, last: Space | None) -> None:
    """Check names, values, conditions and `around`.

    Args:
        algo: name of the algorithm.
        space: the space of a round.
        last: the space of the round before; None in the first round.

    Raises:
        ExperimentError: its `field` is the parameter's name.
    """
    if not space:
        raise ExperimentError("must have at least one parameter")
    subjects: dict[str, str] = {}
    for name, parameter in space.items():
        if name not in known_names(algo):
            hint = nearest(name, known_names(algo))
            raise ExperimentError(f"unknown parameter of {algo.upper()}; {hint}", name)
        other = subjects.setdefault(subject(name), name)
        if other != name:
            raise ExperimentError(
                f"{name} and {other} both set {subject(name)}; remove one of them", name
            )
        _check_conditions(space, name)
        _check_values(algo, space, name)
        if parameter.around is not None:
            before = (last or {}).get(name)
            if before is None or before.choices is not None:
                raise ExperimentError(
                    "around requires a range of the same parameter in the previous round", name
                )


def _check_conditions(space: Space, name: str) -> None:
    above = list(space)[: list(space).index(name)]
    for condition, allowed in space[name].when.items():
        if condition not in above:
            raise ExperimentError(
                f"when {condition}: a condition must be a parameter that comes before it; "
                f"{nearest(condition, above) if above else 'there is none'}",
                name,
            )
        choices = space[condition].labels
        for option in allowed if isinstance(allowed, list) else [allowed]:
            if choices and label(option) not in choices:
                hint = nearest(str(option), [str(choice) for choice in choices])
                raise ExperimentError(f"when {condition}: {option!r} is not a choice; {hint}", name)


def _check_values(algo: str, space: Space, name: str) -> None:
    """Check of a parameter's values what an experiment would not."""
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
                raise ExperimentError(f"{bound:g}: must be a whole number", name)
    if name not in ZOO and bool in kinds_of(algo, name):
        raise ExperimentError("must be a list of choices, not a range: [true, false]", name)


def _check_schedules(space: Space, values: Sequence[object]) -> None:
    for value in values:
        if value not in SCHEDULES:
            hint = nearest(str(value), SCHEDULES)
            raise ExperimentError(f"{value!r} is not a schedule; {hint}", SCHEDULE)
    if "learning_rate" not in space:
        raise ExperimentError("requires learning_rate in the same space", SCHEDULE)


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
            raise ExperimentError(f"{value!r}: must be a whole number of at least {least}", name)
        if greatest is not None and value > greatest:
            raise ExperimentError(f"{value:g}: must be at most {greatest}", name)
