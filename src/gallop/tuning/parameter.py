"""One parameter of a search space: a range, choices, or a range around the last round's winner."""

from __future__ import annotations

import json

from pydantic import Field, model_validator

from gallop.fields import Float, Settings

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
    choices: list[object] | None = Field(default=None, min_length=1)
    """Values without an order."""
    around: tuple[Float, Float] | None = None
    """Factors: low and high as multiples of the last round's winner, inside the last range."""
    when: dict[str, object] = Field(default={})
    """Values of parameters above (or lists of values) for which this one exists."""

    @model_validator(mode="before")
    @classmethod
    def _list_of_choices(cls, data: object) -> object:
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
        for allowed in self.when.values():
            for option in allowed if isinstance(allowed, list) else [allowed]:
                _check_plain("when", option)
        return self

    @property
    def range(self) -> tuple[float, float]:
        """Least and greatest value, of a parameter that has a range."""
        assert self.low is not None and self.high is not None, "`around` was narrowed to a range"
        return self.low, self.high

    @property
    def labels(self) -> list[Value]:
        """The choices as Optuna stores them; empty where there is a range."""
        return [label(choice) for choice in self.choices or []]


Space = dict[str, Parameter]


def label(choice: object) -> Value:
    """A choice as Optuna stores it: lists and mappings as JSON.

    Raises:
        TypeError, ValueError, RecursionError: if JSON cannot hold it.
    """
    return choice if isinstance(choice, bool | int | float | str | None) else json.dumps(choice)


def options(allowed: object) -> list[Value]:
    """The values that a condition (`when`) allows: one, or a list of them."""
    return [label(option) for option in (allowed if isinstance(allowed, list) else [allowed])]


def _check_choices(choices: list[object]) -> None:
    for choice in choices:
        _check_plain("choice", choice)
    if len({label(choice) for choice in choices}) < len(choices):
        raise ValueError(f"choices {choices} hold a value twice")


def _check_plain(what: str, value: object) -> None:
    """YAML has dates, bytes and sets as well, which JSON cannot hold."""
    try:
        label(value)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(f"{what} {value!r} is no text, number, list or mapping") from None


def _check_range(low: float | None, high: float | None, log: bool, step: float | None) -> None:
    if low is None or high is None:
        raise ValueError("a range needs low and high")
    if low > high:
        raise ValueError(f"low {low:g} is above high {high:g}: swap them")
    if log and low <= 0:
        raise ValueError(f"low {low:g}: a logarithmic range begins above 0")
    if log and step is not None:
        raise ValueError("log and step exclude each other")
