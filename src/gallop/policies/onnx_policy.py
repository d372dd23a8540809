"""Policies in ONNX files, whatever library has written them.

An ONNX file is data: reading it runs no code of its author. Inputs and outputs are recognised by
their shapes, and by the names that libraries give them where shapes are ambiguous. A file with a
memory (recurrent networks) has an input and an output of the same shape for each part of it.
PyTorch's exporter writes larger weights to a second file, `.data` added to the name of the first.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gallop.environments.spaces import Space, is_unit_box
from gallop.policies.onnx_export import PREFIX
from gallop.policies.policy import Array, Observations
from gallop.policies.safe_archive import PolicyFileError, whole_file

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 29
ACTIONS = ("action", "actions", "mu", "mean", "mean_actions", "output")
"""Names of the output that is taken if several have the shape of an action, the likeliest first."""
UNSCALED = (
    "its outputs have the names of rl_games's export, which does not scale actions of ±1 to the "
    "task's bounds; with --wrappers '[{\"gymnasium.wrappers:RescaleAction\": "
    '{"min_action": -1.0, "max_action": 1.0}}]\' they are scaled'
)


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
        if _is_of_rl_games(outputs) and not is_unit_box(action_space):
            log.warning("%s: %s", path, UNSCALED)
        self._types = {each.name: _NUMPY.get(each.dtype, np.float32) for each in inputs}
        # A file with a fixed batch of 1 takes one observation at a time.
        own = {each.name: each for each in inputs}
        sizes = {n for name in self._observations.values() for n in own[name].shape[:1] if n}
        if sizes - {1}:
            raise PolicyFileError(
                f"{path}: takes {max(sizes)} observations at a time; export it for 1, or any number"
            )
        self._one_by_one = 1 in sizes
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
        try:
            action, *given = self._session.run(wanted, feed | memory)
        except Exception as error:  # onnxruntime raises many kinds
            raise PolicyFileError(f"{self._path}: cannot be run: {_line(error)}") from None
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
    content = _with_weights(path, whole_file(path, MAX_BYTES))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the bits depend on them
    options.log_severity_level = 4
    try:
        # From memory, so that the file cannot name other files of this machine.
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds
        raise PolicyFileError(f"{path}: not a policy in ONNX format: {_line(error)}") from None


def _with_weights(path: Path, content: bytes) -> bytes:
    """Put weights into a file that has them in a second file, as PyTorch's exporter writes it.

    Only a second file of the usual name is read, whatever the first one says.

    Args:
        path: the file.
        content: its bytes.

    Raises:
        PolicyFileError: if the weights are not there.
    """
    if b"location" not in content:
        return content
    try:
        import onnx
        from onnx.external_data_helper import uses_external_data
    except ImportError:
        raise PolicyFileError(f'{path}: needs onnx: pip install "gallop-rl[onnx]"') from None
    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # protobuf's; onnxruntime says that it is no model
        return content
    tensors = [each for each in model.graph.initializer if uses_external_data(each)]
    if not tensors:
        return content
    beside = path.with_name(f"{path.name}.data")
    named = {each.value for t in tensors for each in t.external_data if each.key == "location"}
    if named != {beside.name}:
        raise PolicyFileError(
            f"{path}: its weights are in {', '.join(sorted(map(repr, named)))}; only a second file "
            f"{beside.name!r} is read: keep the names that the exporter gave"
        )
    weights = whole_file(beside, MAX_BYTES)
    for tensor in tensors:
        told = {each.key: each.value for each in tensor.external_data}
        first, n_bytes = (_natural(told.get(key, "0")) for key in ("offset", "length"))
        part = weights[first : first + n_bytes if "length" in told else None]
        if "length" in told and len(part) != n_bytes:
            raise PolicyFileError(
                f"{beside}: damaged: it ends before the weights of {path.name} do"
            )
        tensor.raw_data, tensor.data_location = part, onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    found: bytes = model.SerializeToString()
    return found


def _natural(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,12}", text) else 0


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


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


def _is_of_rl_games(outputs: Sequence[_Tensor]) -> bool:
    return {"mu", "log_std", "value"} <= {each.name for each in outputs}


def _memory(path: Path, inputs: Sequence[_Tensor], outputs: Sequence[_Tensor]) -> list[_Part]:
    """Pair the remaining inputs with outputs of the same shape: by name, else in their order."""
    left, found = list(outputs), []
    for taken in inputs:
        able = [each for each in left if each.shape == taken.shape]
        if not able:
            raise PolicyFileError(
                f"{path}: its input {taken.name!r} is neither the observation nor a memory, of "
                "which an output of the same shape gives the next value"
            )
        named = [each for each in able if _part(each.name) == _part(taken.name)]
        if not named and len(able) > sum(each.shape == taken.shape for each in inputs):
            raise PolicyFileError(
                f"{path}: cannot tell which output gives the next value of its input "
                f"{taken.name!r}: {_listed(able)}; export it with names such as h_in and h_out"
            )
        given = (named or able)[0]
        left.remove(given)
        kind = _NUMPY.get(taken.dtype, np.float32)
        found.append(_Part(taken.name, given.name, taken.shape, kind))
    return found


def _part(name: str) -> str:
    """The name of a part of the memory, without what tells input and output apart.

    >>> _part("h_in"), _part("h_out"), _part("next_cell")
    ('h', 'h', 'cell')
    """
    words = re.split(r"[._]", name.lower())
    return "_".join(w for w in words if w not in _ENDS)


_ENDS = ("in", "out", "input", "output", "next", "prev", "new", "old")


def _listed(tensors: Sequence[_Tensor]) -> str:
    """Name tensors with their shapes."""
    return ", ".join(
        f"{each.name} [{', '.join('n' if size is None else str(size) for size in each.shape)}]"
        for each in tensors
    )
