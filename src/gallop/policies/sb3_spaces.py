"""Check that a policy file belongs to a task: compare its spaces with the task's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gallop.environments.spaces import Space
from gallop.policies.safe_archive import (
    PolicyFileError,
)

NUMBER = re.compile(r"[-+]?(?:inf|\d+(?:\.\d*)?(?:e[-+]?\d+)?)")
MAX_PRINTED = 10_000  # characters of bounds; longer ones are not compared


def channel_first(space: Space) -> Space:
    """Return an observation space as SB3's policies have it: images with the channel first.

    SB3 trains on images whose channel comes last in its wrapper VecTransposeImage, and transposes
    what `predict` is given.
    """
    from gymnasium import spaces
    from stable_baselines3.common.preprocessing import (
        is_image_space,
        is_image_space_channels_first,
    )
    from stable_baselines3.common.vec_env import VecTransposeImage

    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: channel_first(part) for key, part in space.items()})
    if not isinstance(space, spaces.Box) or not is_image_space(space):
        return space
    if is_image_space_channels_first(space):
        return space
    return VecTransposeImage.transpose_space(space)


def check_spaces(
    path: Path,
    data: Mapping[str, Any],
    observation_space: Space,
    action_space: Space,
) -> None:
    """Check that the spaces in a policy file are those of the task.

    Args:
        path: the policy file, for error messages.
        data: its settings and readable strings.
        observation_space: the task's.
        action_space: the task's, as policies see it.

    Raises:
        PolicyFileError: with both spaces, if they differ.
    """
    for name, space in (("observation", observation_space), ("action", action_space)):
        readable = data.get(f"{name}_space")
        readable = readable if isinstance(readable, Mapping) else {}
        kind = re.search(r"\.(\w+)'>$", str(readable.get(":type:", ""))[:200])
        shape = readable.get("_shape", readable.get("shape"))
        shape = list(shape) if isinstance(shape, list) else None
        theirs = (kind.group(1) if kind else "?", shape, readable.get("n"))
        ours = (type(space).__name__, list(space.shape or ()), str(getattr(space, "n", None)))
        same_shape = theirs[1] is None or theirs[1] == ours[1]
        same_number = theirs[2] is None or re.findall(r"\d+", str(theirs[2])) == re.findall(
            r"\d+", ours[2]
        )
        # SB3 divides images of bytes by 255, and no others.
        dtype = readable.get("dtype") if name == "observation" else None
        same_scale = dtype is None or (dtype == "uint8") == (str(space.dtype) == "uint8")
        if theirs[0] != ours[0] or not same_shape or not same_number or not same_scale:
            raise PolicyFileError(
                f"{path}: a policy of another task: its {name}s are {theirs[0]} "
                f"{str(theirs[1] or theirs[2] or '')[:40]}, the task's are {ours[0]} "
                f"{ours[1] or ours[2]}" + ("" if same_scale else f" of {space.dtype}, not {dtype}")
            )
        # Bounds scale the actions; those of observations change no policy.
        names = ("low", "high", "nvec", "start") if name == "action" else ("nvec",)
        _check_numbers(path, name, names, readable, space)


def _check_numbers(
    path: Path,
    what: str,
    names: tuple[str, ...],
    readable: Mapping[str, Any],
    space: Space,
) -> None:
    """Check the numbers in the file's readable strings, if there are any, against the task's."""
    for name in names:
        printed = str(readable.get(name, ""))[: MAX_PRINTED + 1]
        words = re.sub(r"[\[\],]", " ", printed).split()
        if words and len(printed) <= MAX_PRINTED and all(map(NUMBER.fullmatch, words)):
            theirs = np.array([float(word) for word in words])
            ours = np.asarray(getattr(space, name, theirs), dtype=np.float64).reshape(-1)
            # NumPy prints at most eight digits.
            if theirs.size not in (1, ours.size) or not np.allclose(theirs, ours, rtol=1e-6):
                raise PolicyFileError(
                    f"{path}: a policy of another task: its {what}s' {name} is "
                    f"{' '.join(printed.split())[:60]}, the task's {str(ours.tolist())[:200]}"
                )
