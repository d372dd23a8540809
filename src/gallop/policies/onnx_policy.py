"""Policies in ONNX files, whatever library has written them.

An ONNX file is data: reading it runs no code of its author. Inputs and outputs are recognised by
their shapes, and by the names that libraries give them where shapes are ambiguous. A file with a
memory (recurrent networks) has an input and an output of the same shape for each part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gallop.environments.spaces import Space
from gallop.policies.onnx_export import PREFIX
from gallop.policies.policy import Array, Observations
from gallop.policies.safe_archive import PolicyFileError
from gallop.reading import open_regular

MAX_BYTES = 1 << 29
ACTIONS = ("action", "actions", "mu", "mean", "mean_actions", "output")
"""Names of the output that is taken if several have the shape of an action, the likeliest first."""


class _Tensor(NamedTuple):
    """An input or output of a file."""

    name: str
    shape: tuple[int | None, ...]
    """Sizes; None where any size fits."""
    dtype: str
    """ONNX Runtime's name of the type, such as `tensor(float)`."""


class OnnxPolicy:
    """A policy behind the `Policy` protocol: raw observations → actions in the task's own units.

    Actions outside of the task's bounds are clipped.
    """

    def __init__(self, path: Path, observation_space: Space, action_space: Space) -> None:
        """
        Args:
            path: the file.
            observation_space: the task's.
            action_space: the task's, as policies see it.

        Raises:
            PolicyFileError: if the file cannot be read, or its inputs and outputs do not fit the
                spaces.
        """
        self._path, self._space = path, action_space
        self._session = _session(path)
        inputs = [_tensor(each) for each in self._session.get_inputs()]
        outputs = [_tensor(each) for each in self._session.get_outputs()]
        self._observations = _observation_inputs(path, inputs, observation_space)
        self._action = _action_output(path, outputs, action_space)
        rest = [each for each in inputs if each.name not in self._observations.values()]
        others = [each for each in outputs if each.name != self._action.name]
        self._memory = _memory(path, rest, others)
        self._types = {each.name: _NUMPY.get(each.dtype, np.float32) for each in inputs}
        # A file with a fixed batch of 1 takes one observation at a time.
        own = {each.name: each for each in inputs}
        self._one_by_one = any(own[n].shape[:1] == (1,) for n in self._observations.values())
        self._parts: list[dict[str, Array]] = []  # of the memory: one for all rows, or one per row

    def begin(self) -> None:
        """Erase the memory, because new episodes start."""
        self._parts = []

    def act(self, observations: Observations) -> Array:
        """Return actions [n, ...] for a batch of n raw observations."""
        parts = observations if isinstance(observations, Mapping) else {"": observations}
        n = len(next(iter(parts.values())))
        if not self._parts:
            rows = [1] * n if self._one_by_one else [n]
            self._parts = [{m.taken: m.zeros(size) for m in self._memory} for size in rows]
        if self._one_by_one:
            each = [
                self._run({key: part[i : i + 1] for key, part in parts.items()}, self._parts[i])
                for i in range(n)
            ]
            return self._as_actions(np.concatenate(each))
        return self._as_actions(self._run(parts, self._parts[0]))

    def _run(self, parts: Mapping[str, Array], memory: dict[str, Array]) -> Array:
        feed: dict[str, Array] = {
            name: np.asarray(parts[key], self._types[name])
            for key, name in self._observations.items()
        }
        wanted = [self._action.name, *(part.given for part in self._memory)]
        action, *given = self._session.run(wanted, feed | memory)
        for part, value in zip(self._memory, given, strict=True):
            memory[part.taken] = value
        found: Array = action
        return found

    def _as_actions(self, outputs: Array) -> Array:
        """Convert outputs to actions in the shape of the space."""
        from gymnasium import spaces

        space: Any = self._space
        n = len(outputs)
        if isinstance(space, spaces.Box):
            actions = outputs.reshape(n, *space.shape)
            clipped: Array = np.clip(actions, space.low, space.high).astype(space.dtype)
            return clipped
        if outputs.dtype.kind == "f":  # a value or a logit for each choice
            chosen: Array = outputs.reshape(n, -1).argmax(axis=1)
            return chosen
        return outputs.reshape(n, *(space.shape or ()))


class _Part(NamedTuple):
    """A part of the memory of a recurrent network."""

    taken: str
    """Its input."""
    given: str
    """The output with its next value."""
    shape: tuple[int | None, ...]
    dtype: Any

    def zeros(self, n: int) -> Array:
        """Its value before the first observation of n episodes."""
        return np.zeros([n if size is None else size for size in self.shape], self.dtype)


_NUMPY = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
}


def recorded_task(path: Path) -> dict[str, Any] | None:
    """Return the task that Gallop recorded in a file; None in files of other libraries.

    Raises:
        PolicyFileError: if the file cannot be read.
    """
    metadata = _session(path).get_modelmeta().custom_metadata_map
    try:
        found = json.loads(metadata[f"{PREFIX}task"])
    except (KeyError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise PolicyFileError(f'{path}: needs onnxruntime: pip install "gallop-rl[onnx]"') from None
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PolicyFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(content) > MAX_BYTES:
        raise PolicyFileError(f"{path}: larger than a policy can be")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the bits depend on them
    options.log_severity_level = 4
    try:
        # From memory, so that the file cannot name other files of this machine.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise PolicyFileError(f"{path}: not a policy in ONNX format: {reason}") from None


def _tensor(described: Any) -> _Tensor:
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in described.shape)
    return _Tensor(described.name, shape, described.type)


def _fits(shape: Sequence[int | None], wanted: Sequence[int]) -> bool:
    """Whether a tensor [batch, ...] can hold values of a shape, flattened or not."""
    rest = tuple(shape[1:])
    if len(rest) == len(wanted):
        return all(size in (None, own) for size, own in zip(rest, wanted, strict=True))
    return rest == (int(np.prod(wanted)),)


def _observation_inputs(path: Path, inputs: Sequence[_Tensor], space: Space) -> dict[str, str]:
    """Return key of the observation ("" without keys) -> name of its input."""
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        names = {each.name: each for each in inputs}
        for key, part in space.items():
            if key not in names or not _fits(names[key].shape, part.shape or ()):
                raise PolicyFileError(
                    f"{path}: has no input {key!r} of shape {list(part.shape or ())}; it has "
                    f"{_listed(inputs)}"
                )
        return {key: key for key in space}
    shape = space.shape or ()
    able = [each for each in inputs if _fits(each.shape, shape)]
    if not able:
        raise PolicyFileError(
            f"{path}: no input takes observations of shape {list(shape)}; it has {_listed(inputs)}"
        )
    likely = [each for each in able if each.name.startswith("obs")]
    return {"": (likely or able)[0].name}


def _action_output(path: Path, outputs: Sequence[_Tensor], space: Any) -> _Tensor:
    from gymnasium import spaces

    if isinstance(space, spaces.Box):
        able = [each for each in outputs if _fits(each.shape, space.shape)]
        wanted = f"actions of shape {list(space.shape)}"
    elif isinstance(space, spaces.Discrete):
        able = [each for each in outputs
                if (each.shape[1:] in ((), (1,)) and "int" in each.dtype)
                or (_fits(each.shape, (int(space.n),)) and "float" in each.dtype)]  # fmt: skip
        wanted = f"one of {space.n} actions"
    else:
        able = [each for each in outputs if _fits(each.shape, space.shape) and "int" in each.dtype]
        wanted = f"{type(space).__name__} actions of shape {list(space.shape)}"
    if not able:
        raise PolicyFileError(f"{path}: no output gives {wanted}; it has {_listed(outputs)}")
    named = [each for name in ACTIONS for each in able if each.name == name]
    return (named or able)[0]


def _memory(path: Path, inputs: Sequence[_Tensor], outputs: Sequence[_Tensor]) -> list[_Part]:
    """Pair the remaining inputs with outputs of the same shape, in their order."""
    left, found = list(outputs), []
    for taken in inputs:
        given = next((each for each in left if each.shape == taken.shape), None)
        if given is None:
            raise PolicyFileError(
                f"{path}: its input {taken.name!r} is neither the observation nor a memory, of "
                "which an output of the same shape gives the next value"
            )
        left.remove(given)
        kind = _NUMPY.get(taken.dtype, np.float32)
        found.append(_Part(taken.name, given.name, taken.shape, kind))
    return found


def _listed(tensors: Sequence[_Tensor]) -> str:
    """Name tensors with their shapes."""
    return ", ".join(
        f"{each.name} [{', '.join('n' if size is None else str(size) for size in each.shape)}]"
        for each in tensors
    )
