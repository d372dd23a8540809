"""JSON as its standard has it: it knows no NaN and no infinity, which Python would write as words.

They become the texts "NaN", "Infinity" and "-Infinity", which `float` reads back, as in Protocol
Buffers' JSON. Keys become text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def dumps(value: object, indent: int | None = None) -> str:
    """Plain data as JSON that every reader takes.

    >>> dumps({"limits": [0.8, float("inf")], "count": 3})
    '{"limits": [0.8, "Infinity"], "count": 3}'

    Raises:
        TypeError: if it holds anything but numbers, text, None, lists and mappings.
    """
    return json.dumps(strict(value), indent=indent, allow_nan=False)


def strict(value: object) -> object:
    """The same with numbers that are not finite as text, and keys as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else _key(k): strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    return value


def _key(key: object) -> str:
    """As json.dumps writes keys: true, null, 1.0."""
    text = strict(key)
    return text if isinstance(text, str) else json.dumps(text)
