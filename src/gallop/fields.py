"""Types of single settings, from which hyper-parameters and experiments are declared.

They accept what YAML files and shells give, and refuse the rest in one line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Container, Iterator, Mapping
from enum import Enum
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

MAX_TIMESTEPS = 10**12  # beyond it nobody trains, and looking for divisors takes forever


def flat(
    settings: Mapping[str, Any], sections: Container[str] | None = None, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Dotted names of nested settings, and their values.

    >>> dict(flat({"algo": "sac", "evaluation": {"interval": 100}}))
    {'algo': 'sac', 'evaluation.interval': 100}

    Args:
        sections: names of the mappings that are taken apart; default: all. The others stay one
            value each, such as what a task or Adam is given.
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and (sections is None or name in sections):
            yield from flat(value, sections, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _whole_number(value: Any) -> Any:
    """Accept 1e6 and "2e6", which YAML and shells give as float or text; refuse true and 0.5."""
    if isinstance(value, bool):
        raise ValueError("a whole number is needed, not true or false")
    if isinstance(value, str):
        try:
            value = float(value) if not value.lstrip("+-").isdigit() else int(value)
        except ValueError:
            raise ValueError("a whole number is needed") from None
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("a whole number is needed")
        return int(value)
    return value


def _real_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


def _schedule(value: Any) -> float | str:
    """A constant, or `lin_X`: X at the first timestep, falling linearly to 0 at the last."""
    text = str(value)
    number = text.removeprefix("lin_")
    try:
        start = float(number)
    except ValueError:
        raise ValueError("a number or lin_NUMBER is needed, such as 3e-4 or lin_3e-4") from None
    if isinstance(value, bool) or not 0 < start < math.inf:
        raise ValueError("must be greater than 0 and finite")
    return text if text.startswith("lin_") else start


def plain(value: Any, name: str = "") -> Any:
    """What YAML holds and gives back: numbers, text, true, false, None, lists and mappings.

    Tuples become lists, NumPy's numbers Python's; a member of an enumeration becomes its value, and
    text or a number of a class of its own the plain one. The parts are copies.

    >>> plain({"limits": (0.8, math.inf)})
    {'limits': [0.8, inf]}

    Args:
        name: of the value, for the message.

    Raises:
        ValueError: for anything else, with the name of the part.
    """
    return _plain(value, name, 0)


def _plain(value: Any, name: str, depth: int) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Enum) and value.value is not value:
        return _plain(value.value, name, depth + 1)
    for base, of_it in _BASES.items():
        if isinstance(value, base):
            return of_it(value)
    if depth > MAX_DEPTH:
        raise ValueError(f"{_at(name)}is nested more than {MAX_DEPTH} deep, or holds itself")
    if isinstance(value, Mapping):
        below = f"{name}." if name else ""
        found = {}
        for key, part in value.items():
            plain_key = _plain(key, f"{_at(name)}the key", depth)
            if isinstance(plain_key, list | dict):
                raise ValueError(f"{_at(name)}the key {key!r}: text or a number is needed")
            found[plain_key] = _plain(part, f"{below}{key}", depth + 1)
        return found
    if isinstance(value, list | tuple):
        return [_plain(part, f"{name}.{i}", depth + 1) for i, part in enumerate(value)]
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value), name, depth)
    kind = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "item") and not getattr(value, "ndim", 1):
        number = value.item()
        if type(number) in (bool, int, float, str):
            return number
    what = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    hint = _INSTEAD.get(what, "numbers, text, true, false, null, lists and mappings are possible")
    raise ValueError(f"{_at(name)}a {what} cannot be kept in experiment.yaml; {hint}")


# What makes plain ones, whatever a class of somebody's own says of itself.
_BASES: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
MAX_DEPTH = 32  # lists and mappings inside each other, in what a task or wrapper is given
_INSTEAD = {
    "datetime.date": "give it as text",
    "datetime.datetime": "give it as text",
    "bytes": "give it as text",
    "set": "give it as a list",
    "frozenset": "give it as a list",
    "numpy.ndarray": "give it as a list (tolist)",
}


def _at(name: str) -> str:
    return f"{name}: " if name else ""


def _arguments(value: Any) -> Any:
    """Keyword arguments of somebody's code, that can be kept."""
    return plain(value) if isinstance(value, Mapping) else value


def _wrapper(value: Any) -> Any:
    """`package.module:Class`, or a mapping of one such path to its keyword arguments."""
    path: Any = value
    kwargs: Any = {}
    if isinstance(value, Mapping) and len(value) == 1:
        path, kwargs = next(iter(value.items()))
    if not isinstance(path, str) or not isinstance(kwargs or {}, Mapping):
        raise ValueError("an import path such as package.module:Class is needed")
    module, _, attribute = path.replace(":", ".").rpartition(".")
    if not module or not attribute.isidentifier():
        raise ValueError("an import path such as package.module:Class is needed")
    return {path: plain(kwargs or {}, path)}


Int = Annotated[int, BeforeValidator(_whole_number)]
PositiveInt = Annotated[Int, Field(ge=1)]
Float = Annotated[float, BeforeValidator(_real_number), Field(allow_inf_nan=False)]
Schedule = Annotated[float | str, BeforeValidator(_schedule)]
Arguments = Annotated[dict[str, Any], BeforeValidator(_arguments)]
Wrapper = Annotated[dict[str, dict[str, Any]], BeforeValidator(_wrapper)]
LowerCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class Settings(BaseModel):
    """Base of every part: frozen, no unknown keys, docs under each field."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
