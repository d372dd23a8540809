"""JSON that follows the standard, which has no NaN and no infinity (Python writes bare words).

They become the strings "NaN", "Infinity" and "-Infinity", as in the JSON of Protocol Buffers;
`float` reads them back. Keys become strings.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def dumps(value: object, indent: int | None = None) -> str:
    """Write plain data as JSON that every parser accepts.

    >>> dumps({"limits": [0.8, float("inf")], "count": 3})
    '{"limits": [0.8, "Infinity"], "count": 3}'

    Raises:
        TypeError: if it contains anything but numbers, strings, None, lists and mappings.
    """
    return json.dumps(strict(value), indent=indent, allow_nan=False)


def strict(value: object) -> object:
    """Return the same data with non-finite numbers and all keys as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {k if isinstance(k, str) else _key(k): strict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [strict(part) for part in value]
    return value


def _key(key: object) -> str:
    """Convert a key as json.dumps does: true, null, 1.0."""
    text = strict(key)
    return text if isinstance(text, str) else json.dumps(text)
