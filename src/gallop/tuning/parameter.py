"""One parameter of a search space: a range, choices, or a range around the last round's winner."""

from __future__ import annotations

import json

from pydantic import Field, model_validator

from gallop.fields import Float, Settings

Value = bool | int | float | str | None
"""The type of a parameter's value in Optuna's storage."""


class Parameter(Settings):
    """The values that a parameter may take."""

    low: Float | None = None
    """Smallest value."""
    high: Float | None = None
    """Largest value."""
    log: bool = False
    """Whether to sample uniformly in the logarithm."""
    step: Float | None = Field(default=None, gt=0)
    """Distance between allowed values, counted from `low`."""
    choices: list[object] | None = Field(default=None, min_length=1)
    """Categorical values."""
    around: tuple[Float, Float] | None = None
    """Factors that multiply the last round's winner, giving low and high within its range."""
    when: dict[str, object] = Field(default={})
    """Condition: name of an earlier parameter -> its value, or values, for which this exists."""

    @model_validator(mode="before")
    @classmethod
    def _list_of_choices(cls, data: object) -> object:
        return {"choices": data} if isinstance(data, list) else data

    @model_validator(mode="after")
    def _one_kind(self) -> Parameter:
        ranged = self.low is not None or self.high is not None
        if [ranged, self.choices is not None, self.around is not None].count(True) != 1:
            raise ValueError("expected one of a range (low, high), choices, or around")
        if self.choices is not None:
            _check_choices(self.choices)
        if self.around is not None and not 0 < self.around[0] <= self.around[1]:
            raise ValueError(
                f"around {list(self.around)}: expected two factors above 0 in rising order"
            )
        if ranged:
            _check_range(self.low, self.high, self.log, self.step)
        for allowed in self.when.values():
            for option in allowed if isinstance(allowed, list) else [allowed]:
                _check_plain("when", option)
        return self

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value of a parameter with a range."""
        assert self.low is not None and self.high is not None, "`around` was narrowed to a range"
        return self.low, self.high

    @property
    def labels(self) -> list[Value]:
        """The choices as Optuna stores them; empty for a parameter with a range."""
        return [label(choice) for choice in self.choices or []]


Space = dict[str, Parameter]


def label(choice: object) -> Value:
    """Return a choice as Optuna stores it: lists and mappings as JSON.

    Raises:
        TypeError, ValueError, RecursionError: if JSON cannot hold it.
    """
    return choice if isinstance(choice, bool | int | float | str | None) else json.dumps(choice)


def options(allowed: object) -> list[Value]:
    """Return the values that a condition (`when`) allows, given one value or a list."""
    return [label(option) for option in (allowed if isinstance(allowed, list) else [allowed])]


def _check_choices(choices: list[object]) -> None:
    for choice in choices:
        _check_plain("choice", choice)
    if len({label(choice) for choice in choices}) < len(choices):
        raise ValueError(f"choices {choices} contain a value twice")


def _check_plain(what: str, value: object) -> None:
    """Refuse dates, bytes and sets from YAML, which JSON cannot hold."""
    try:
        label(value)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"{what} {value!r} must be text, a number, a list or a mapping") from None


def _check_range(low: float | None, high: float | None, log: bool, step: float | None) -> None:
    if low is None or high is None:
        raise ValueError("a range requires both low and high")
    if low > high:
        raise ValueError(f"low {low:g} must not be above high {high:g}")
    if log and low <= 0:
        raise ValueError(f"low {low:g} must be above 0 in a logarithmic range")
    if log and step is not None:
        raise ValueError("log and step are mutually exclusive")
