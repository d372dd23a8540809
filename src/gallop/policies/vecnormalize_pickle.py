"""Read arrays from a pickle without unpickling it: the Zoo's vecnormalize.pkl.

A pickle is a program for a small stack machine. This module steps through it opcode by opcode, with
stand-ins for objects: nothing is imported and nothing is called. A name outside the allow-list is
an error. The result consists of numbers, strings, containers, and NumPy arrays built here from
their bytes.

Source for the meaning of the opcodes: Python's Lib/pickletools.py.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gallop.policies.normalizer import Normalizer
from gallop.policies.policy import Array
from gallop.policies.safe_archive import PolicyFileError, UnsafeFileError
from gallop.reading import open_regular

MAX_BYTES = 1 << 24  # statistics of 100,000 observations take two megabytes
MAX_STEPS = 100_000  # SB3's own files have about 700

# The only names allowed. `_called` handles those that are called.
_ALLOWED = re.compile(
    r"stable_baselines3\.common\.vec_env\.vec_normalize VecNormalize"
    r"|stable_baselines3\.common\.running_mean_std RunningMeanStd"
    r"|numpy(\._?core\.multiarray)? (_reconstruct|scalar|ndarray|dtype)"
    r"|numpy\._?core\.numeric _frombuffer"
    r"|(gym|gymnasium)\.spaces(\.\w+)? (Box|Discrete|Dict|MultiDiscrete|MultiBinary|Tuple)"
    r"|(gym|gymnasium)\.utils\.seeding \w+"
    r"|numpy\.random(\.\w+)? \w+"
    r"|collections OrderedDict|_codecs encode|copyreg _reconstructor|builtins object"
)
_DTYPE = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1)")


@dataclass
class _Name:
    text: str


@dataclass
class _Object:
    """Stand-in for an object of an allowed class: the name and the state."""

    name: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Dtype:
    text: str


@dataclass
class _Array:
    """An array whose bytes follow later."""

    value: Array | None = None


class _Mark:
    pass


def read_vecnormalize(path: Path) -> Normalizer | None:
    """Read the statistics of observations in a vecnormalize.pkl.

    Returns:
        None if it normalises rewards only.

    Raises:
        PolicyFileError: if the file is damaged, or is not a VecNormalize.
        UnsafeFileError: if it names anything outside the allow-list.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyFileError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise PolicyFileError(f"{path}: larger than statistics can be")
    try:
        found = _Machine().run(content)
        return _normalizer(found)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"{path}: cannot be read safely: {error}") from None
    except Exception as error:  # damaged bytes may break any step
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise PolicyFileError(f"{path}: not a VecNormalize, or damaged: {reason}") from None


def _normalizer(found: Any) -> Normalizer | None:
    if not isinstance(found, _Object) or not found.name.endswith(" VecNormalize"):
        raise ValueError("it contains something else")
    state = found.state
    if state.get("norm_obs") is False:
        return None
    statistics = state["obs_rms"]
    parts = statistics if isinstance(statistics, Mapping) else {"": statistics}
    # Many parts may share one array, and each one gets a copy in float64.
    found = (part.state[name] for part in parts.values() for name in ("mean", "var"))
    if sum(_array_of(value).size for value in found) > 2 * MAX_BYTES // 8:
        raise ValueError("its statistics are larger than the file")
    return Normalizer(
        mean={key: _numbers(part.state["mean"]) for key, part in parts.items()},
        variance={key: _numbers(part.state["var"]) for key, part in parts.items()},
        count=max(_number(part.state["count"]) for part in parts.values()),
        clip=_number(state["clip_obs"]),
        epsilon=_number(state["epsilon"]),
    )


def _array_of(value: Any) -> Array | np.generic:
    array = value.value if isinstance(value, _Array) else value
    if not isinstance(array, np.ndarray | np.generic):
        raise ValueError("its statistics are not arrays")
    return array


def _numbers(value: Any) -> NDArray[np.float64]:
    numbers = np.asarray(_array_of(value), dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("its statistics contain NaN or infinity")
    return numbers


def _number(value: Any) -> float:
    number = float(_numbers(value)) if isinstance(value, _Array) else float(value)
    if not math.isfinite(number):
        raise ValueError("its settings contain NaN or infinity")
    return number


class _Machine:
    """The stack machine of pickle, working on stand-ins."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.n_encoded = 0

    def run(self, content: bytes) -> Any:
        for step, (opcode, argument, _) in enumerate(pickletools.genops(content)):
            if step >= MAX_STEPS:
                raise ValueError(f"it takes more than {MAX_STEPS:,} steps")
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise ValueError("it ends too early")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _LITERALS:
            # An array made from a bytearray is a copy, and one bytearray may serve many arrays.
            stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            stack.append(_Mark())
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name in ("TUPLE", "LIST"):
            items = self._to_mark()
            stack.append(tuple(items) if name == "TUPLE" else items)
        elif name == "DICT":
            stack.append({})
            self._set_items(stack[-1], self._to_mark(below=1))
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._to_mark()
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            self._set_items(stack[-1], items)
        elif name == "GLOBAL":
            stack.append(_name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                raise UnsafeFileError("it uses a name that is not text")
            stack.append(_name(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = stack.pop()
            made = _called(stack.pop(), arguments)
            if isinstance(made, bytes):  # one text may be encoded many times
                self.n_encoded += len(made)
                if self.n_encoded > MAX_BYTES:
                    raise ValueError("it contains more bytes than the file")
            stack.append(made)
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        else:
            raise UnsafeFileError(f"it uses {name}, which statistics do not need")

    def _to_mark(self, below: int = 0) -> list[Any]:
        """Pop the items above the last mark, and the mark itself."""
        kept = [self.stack.pop() for _ in range(below)]
        for place in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[place], _Mark):
                items = self.stack[place + 1 :]
                del self.stack[place:]
                self.stack += reversed(kept)
                return items
        raise ValueError("a mark is missing")

    def _set_items(self, target: Any, items: list[Any]) -> None:
        where = target.state if isinstance(target, _Object) else target
        if isinstance(where, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                if isinstance(key, str):
                    where[key] = value


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Any] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}


def _name(module: str, attribute: str) -> _Name:
    text = f"{module} {attribute}"
    if not _ALLOWED.fullmatch(text):
        shown = f"{module}.{attribute}"[:80]
        raise UnsafeFileError(f"it names {shown!r}, which statistics do not need")
    return _Name(text)


def _called(what: Any, arguments: Any) -> Any:
    """Return a stand-in for the result of calling an allowed name; nothing is called."""
    if not isinstance(what, _Name) or not isinstance(arguments, tuple):
        raise UnsafeFileError("it calls something that has no name")
    name = what.text.partition(" ")[2]
    if name == "_reconstruct":
        return _Array()
    if name == "dtype":
        return _Dtype(_dtype(arguments[0]))
    if name == "scalar":
        dtype, content = arguments
        return np.frombuffer(content, np.dtype(dtype.text), count=1)[0]
    if name == "_frombuffer":
        content, dtype, shape, order = arguments
        return _array(content, dtype, shape, order == "F")
    if name == "encode":  # protocols before 3 write bytes this way
        text, encoding = arguments
        if encoding != "latin1":
            raise UnsafeFileError("it encodes text")
        return text.encode("latin-1")
    if name == "OrderedDict":
        return {}
    if name == "_reconstructor" and isinstance(arguments[0], _Name):
        return _Object(arguments[0].text)
    return _Object(what.text)


def _build(target: Any, state: Any) -> None:
    """Set the state of a stand-in."""
    if isinstance(target, _Array):
        _, shape, dtype, fortran, content = state
        target.value = _array(content, dtype, shape, fortran)
    elif isinstance(target, _Dtype):
        order = state[1]
        if order in ("<", ">"):
            target.text = order + target.text.lstrip("<>=|")
    elif isinstance(target, _Object) and isinstance(state, dict):
        target.state = state  # no copy: many objects may share one state


def _dtype(text: Any) -> str:
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        shown = repr(text[:20]) if isinstance(text, str) else f"a {type(text).__name__}"
        raise UnsafeFileError(f"it contains an array of dtype {shown}")
    return text


def _array(content: Any, dtype: Any, shape: Any, fortran: bool) -> Array:
    if not isinstance(content, bytes | bytearray) or not isinstance(dtype, _Dtype):
        raise ValueError("an array's bytes are missing")
    values = np.frombuffer(bytes(content), np.dtype(dtype.text))
    return values.reshape(shape, order="F" if fortran else "C")
