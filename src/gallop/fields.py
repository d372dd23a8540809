"""Types of single settings, from which hyper-parameters and experiments are declared.

They accept the values that YAML files and shells give, and refuse the rest in one line. Each type
also says how it is written in help and documentation.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

MAX_TIMESTEPS = 10**12  # no run is longer, and finding the divisors of more would take forever


@dataclass(frozen=True)
class Shown:
    """How a setting, or every setting of a type, appears in help and documentation.

    It is given next to the type, as in `Annotated[str, Shown(group="task")]`, and changes nothing
    about the values that are accepted.
    """

    group: str = ""
    """Heading under which the setting is listed."""
    metavar: str = ""
    """Stands for the value, such as N."""
    kind: str = ""
    """The type in words, such as "integer"."""
    rare: bool | None = None
    """Whether `--help` leaves the setting to `--help-all`; None: as its section does."""


def flat(
    settings: Mapping[str, Any], sections: Container[str] | None = None, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of every nested setting.

    >>> dict(flat({"algo": "sac", "evaluation": {"interval": 100}}))
    {'algo': 'sac', 'evaluation.interval': 100}

    Args:
        settings: nested mappings.
        sections: names of the mappings to flatten; default: all. Any other mapping is kept as one
            value, such as the keyword arguments of a task or of Adam.
        prefix: of the dotted names.
    """
    for name, value in settings.items():
        if isinstance(value, Mapping) and (sections is None or name in sections):
            yield from flat(value, sections, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


_NOT_WHOLE = "must be a whole number, such as 100000, 100k, 1.5M or 1e6"
_POWERS = {"k": 3, "m": 6}
_MOST_DIGITS = 30  # of a number given as text: 1e999999999 would fill the memory


def whole_number(text: str) -> int:
    """A whole number as people write it.

    >>> [whole_number(text) for text in ("250", "100k", "1.5M", "1e6", "1_000_000")]
    [250, 100000, 1500000, 1000000, 1000000]

    Raises:
        ValueError: if the text is not a number, or the number is not whole or has too many digits.
    """
    words = text.strip()
    power = _POWERS.get(words[-1:].lower(), 0)
    try:
        number = Decimal(words[:-1] if power else words)
    except InvalidOperation:
        raise ValueError(_NOT_WHOLE) from None
    if not number.is_finite() or number.adjusted() < -_MOST_DIGITS:
        raise ValueError(_NOT_WHOLE)
    if number.adjusted() > _MOST_DIGITS:
        raise ValueError("is out of range")
    found = Fraction(number) * Fraction(10**power)  # exact, unlike the arithmetic of Decimal
    if found.denominator != 1:
        raise ValueError(_NOT_WHOLE)
    return int(found)


def _whole_number(value: Any) -> Any:
    """Accept 1e6 and "100k", which YAML and shells give as float or text; refuse true and 0.5."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")
    if isinstance(value, str):
        return whole_number(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(_NOT_WHOLE)
        return int(value)
    return value


def _real_number(value: Any) -> Any:
    """Accept "100k" and "1.5M" where no fraction remains; refuse true."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    if isinstance(value, str) and value.strip()[-1:].lower() in _POWERS:
        try:
            return float(whole_number(value))
        except ValueError:
            pass  # refused by the caller, as a number that may be real
    return value


def _schedule(value: Any) -> float | str:
    """A constant, or `lin_X`, which falls linearly from X at the start of training to 0."""
    text = str(value)
    number = text.removeprefix("lin_")
    try:
        start = float(number)
    except ValueError:
        raise ValueError("must be a number or lin_NUMBER, such as 3e-4 or lin_3e-4") from None
    if isinstance(value, bool) or not 0 < start < math.inf:
        raise ValueError("must be greater than 0 and finite")
    return text if text.startswith("lin_") else start


def plain(value: Any, name: str = "") -> Any:
    """A copy of a value that YAML can store: numbers, text, booleans, None, lists and mappings.

    Tuples become lists, NumPy scalars become Python numbers, members of an enumeration become
    their values, and instances of subclasses of str, int and float become plain ones.

    >>> plain({"limits": (0.8, math.inf)})
    {'limits': [0.8, inf]}

    Args:
        value: the value to copy.
        name: of the value, for the message.

    Raises:
        ValueError: if YAML cannot store a part of it; the message names the part.
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
        raise ValueError(
            f"{_at(name)}is nested more than {MAX_DEPTH} levels deep, or contains itself"
        )
    if isinstance(value, Mapping):
        below = f"{name}." if name else ""
        found = {}
        for key, part in value.items():
            plain_key = _plain(key, f"{_at(name)}the key", depth)
            if isinstance(plain_key, list | dict):
                raise ValueError(f"{_at(name)}the key {key!r}: must be text or a number")
            found[plain_key] = _plain(part, f"{below}{key}", depth + 1)
        return found
    if isinstance(value, list | tuple):
        return [_plain(part, f"{name}.{i}", depth + 1) for i, part in enumerate(value)]
    if isinstance(value, os.PathLike):
        path = Path(value)
        return _plain(str(path.absolute() if path.exists() else path), name, depth)
    kind = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "item") and not getattr(value, "ndim", 1):
        number = value.item()
        if type(number) in (bool, int, float, str):
            return number
    what = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    hint = _INSTEAD.get(what, "use numbers, text, true, false, null, lists or mappings")
    raise ValueError(f"{_at(name)}a {what} cannot be stored in experiment.yaml; {hint}")


# The base classes' own conversions: a subclass may override __str__ or __int__.
_BASES: dict[type, Callable[[Any], object]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
MAX_DEPTH = 32  # of nested lists and mappings in keyword arguments of tasks and wrappers
_INSTEAD = {
    "datetime.date": "write it as text",
    "datetime.datetime": "write it as text",
    "bytes": "write it as text",
    "set": "write it as a list",
    "frozenset": "write it as a list",
    "numpy.ndarray": "convert it to a list (tolist)",
}


def _at(name: str) -> str:
    return f"{name}: " if name else ""


_MODEL = re.compile(r".+/.+\.(xml|mjb|urdf)")


def _arguments(value: Any) -> Any:
    """Keyword arguments of a task, in a form that experiment.yaml can store.

    The paths of files become absolute, so that the run can be evaluated from any other folder.
    """
    if not isinstance(value, Mapping):
        return value
    found = {}
    for name, part in plain(value).items():
        # Gymnasium takes x.xml for one of its own models.
        if isinstance(part, str) and (part.startswith((".", "~")) or _MODEL.fullmatch(part)):
            path = Path(part).expanduser().absolute()
            part = str(path) if path.is_file() else part
        found[name] = part
    return found


def _wrapper(value: Any) -> Any:
    """`package.module:Class`, or a mapping from one such path to its keyword arguments."""
    path: Any = value
    kwargs: Any = {}
    if isinstance(value, Mapping) and len(value) == 1:
        path, kwargs = next(iter(value.items()))
    if not isinstance(path, str) or not isinstance(kwargs or {}, Mapping):
        raise ValueError("must be an import path, such as package.module:Class")
    module, _, attribute = path.replace(":", ".").rpartition(".")
    if not module or not attribute.isidentifier():
        raise ValueError("must be an import path, such as package.module:Class")
    return {path: plain(kwargs or {}, path)}


Int = Annotated[int, BeforeValidator(_whole_number), Shown(metavar="N", kind="integer")]
PositiveInt = Annotated[Int, Field(ge=1)]
Float = Annotated[
    float,
    BeforeValidator(_real_number),
    Field(allow_inf_nan=False),
    Shown(metavar="X", kind="number"),
]
Schedule = Annotated[
    float | str,
    BeforeValidator(_schedule),
    Shown(metavar="X|lin_X", kind="number > 0, or lin_NUMBER"),
]
Arguments = Annotated[
    dict[str, Any],
    BeforeValidator(_arguments),
    Shown(metavar="{KEY: VALUE}", kind="mapping"),
]
Wrapper = Annotated[
    dict[str, dict[str, Any]],
    BeforeValidator(_wrapper),
    Shown(metavar="PATH", kind="import path, or {PATH: {KEY: VALUE}}"),
]
LowerCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)


class Settings(BaseModel):
    """Base of all sections: frozen, no unknown keys, the docstring of each field is its help."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """For pydantic's `repr`: only the settings that differ from their defaults."""
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            if name not in fields or repr(value) != repr(fields[name].default):
                yield name, value
