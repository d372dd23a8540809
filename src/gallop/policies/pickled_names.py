"""Names in the pickles of an SB3 zip, found without running them, for a warning beforehand."""

from __future__ import annotations

import base64
import contextlib
import pickletools
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_NAMES, MAX_TEXT = 12, 80
_TEXTS = ("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE")


def pickled_names(data: Mapping[str, Any]) -> str:
    """List the members of SB3's `data` that are pickles, with the functions and classes in them.

    The list may be incomplete: a pickle can put a name together while it runs.

    >>> import pickle
    >>> text = base64.b64encode(pickle.dumps(print)).decode()
    >>> pickled_names({"gamma": 0.9, "policy_class": {":serialized:": text}})
    'policy_class (builtins.print)'
    """
    members = []
    for key, value in data.items():
        if isinstance(value, Mapping) and ":serialized:" in value:
            names = list(dict.fromkeys(_names(str(value[":serialized:"]))))
            more = [f"and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
            members.append(f"{key[:MAX_TEXT]} ({', '.join([*names[:MAX_NAMES], *more])})")
    return ", ".join(members[:MAX_NAMES]) or "no names found"


def pickled_dtypes(member: Any) -> set[str]:
    """The types of NumPy arrays in a member of SB3's `data`, such as {"f4"}, without running it.

    >>> import pickle
    >>> import numpy as np
    >>> text = base64.b64encode(pickle.dumps(np.zeros(3))).decode()
    >>> pickled_dtypes({":serialized:": text})
    {'f8'}

    Args:
        member: its value; anything else than a pickle has none.
    """
    found: set[str] = set()
    if isinstance(member, Mapping) and ":serialized:" in member:
        with contextlib.suppress(Exception):  # a damaged pickle tells nothing
            for code, argument, _ in pickletools.genops(base64.b64decode(member[":serialized:"])):
                if code.name in _TEXTS and re.fullmatch(r"[fiu][1248]", str(argument)):
                    found.add(str(argument))
    return found


def _names(text: str) -> Iterator[str]:
    texts: list[str] = []
    try:
        for code, argument, _ in pickletools.genops(base64.b64decode(text)):
            if code.name in _TEXTS:
                texts.append(str(argument)[:MAX_TEXT])
            elif code.name == "GLOBAL":
                yield str(argument).replace(" ", ".")[:MAX_TEXT]
            elif code.name == "STACK_GLOBAL":
                yield ".".join(texts[-2:])
    except Exception:  # SB3's own loader reports what is wrong
        yield "damaged"
