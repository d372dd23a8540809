"""Export of a policy as one ONNX file, checked against the policy before it is written."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gallop.environments.identity import identity_of
from gallop.environments.spaces import Env
from gallop.environments.watchdog import watching
from gallop.errors import ExperimentError
from gallop.evaluation.episodes import stack
from gallop.experiments import seeding
from gallop.policies.policy import Array, Observations, Policy
from gallop.policies.sb3_zip import Options
from gallop.run_folder.files import write_bytes
from gallop.run_folder.find_policy import Named, find_policy

N_OBSERVATIONS = 1_000
LIMIT = 1e-5
"""Largest difference of an action, as a share of its range."""


def export_onnx(named: Named, target: Path, options: Options | None = None) -> float:
    """Write a policy as an ONNX file.

    Args:
        named: the policy.
        target: the file to write, which ends in .onnx.
        options: how to read the policy file.

    Returns:
        The largest difference to the policy's actions over 1,000 observations of its task, as a
        share of their range.

    Raises:
        ExperimentError: if onnx or onnxruntime is not installed, the policy cannot be converted,
            or the file differs from the policy; nothing is written then.
    """
    from gallop.policies import sb3_zip
    from gallop.policies.acting import acting
    from gallop.policies.onnx_export import to_onnx

    _check_installed()
    if target.suffix != ".onnx":
        raise ExperimentError(f"{target}: must end in .onnx")
    with watching(named.task.watchdog):
        task = identity_of(named.task)
        env = named.task.make()
    try:
        spaces = env.observation_space, env.action_space
        policy, normalizer = sb3_zip.read_sb3(named.path, *spaces, options or Options())
        model = to_onnx(policy, normalizer, task._asdict(), spaces[0])
        content = model.SerializeToString(deterministic=True)
        observations = _visited(env, acting(policy, normalizer))
    finally:
        env.close()
    difference = _largest_difference(content, acting(policy, normalizer), observations, spaces[1])
    if not difference <= LIMIT:
        raise ExperimentError(
            f"{named.path}: the ONNX file differs from the policy by {difference:.1e} of an "
            f"action's range, more than {LIMIT:.0e}"
        )
    write_bytes(target, content)
    return difference


def is_installed() -> bool:
    """Whether the packages are there that write and check ONNX files."""
    return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))


def export_if_installed(policy: Path, target: Path) -> bool:
    """Write a run's policy as an ONNX file, if onnx and onnxruntime are installed.

    Args:
        policy: the policy file, in its run folder.
        target: the file to write.

    Returns:
        Whether it was written.

    Raises:
        ExperimentError: as `export_onnx` does.
    """
    if not is_installed():
        return False
    export_onnx(find_policy(policy), target)
    return True


def _check_installed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ExperimentError(f'--onnx needs {error.name}: pip install "gallop-rl[onnx]"') from None


def _visited(env: Env, policy: Policy) -> Observations:
    """Return a batch of observations: those that the policy meets, and those of random actions."""
    found: list[Any] = []
    env.action_space.seed(0)
    seeds = iter(seeding.EVALUATION_SEEDS * N_OBSERVATIONS)
    observation, _ = env.reset(seed=next(seeds))
    while len(found) < N_OBSERVATIONS:
        found.append(observation)
        action = env.action_space.sample()
        if len(found) % 20:
            action = policy.act(stack([observation]))[0]
        observation, _, terminated, truncated, _ = env.step(
            action.item() if np.ndim(action) == 0 else action
        )
        if terminated or truncated:
            observation, _ = env.reset(seed=next(seeds))
    return stack(found)


def _largest_difference(
    content: bytes, policy: Policy, observations: Observations, action_space: Any
) -> float:
    """Return the largest difference of the file's actions from the policy's, as a share of their
    range; of numbered actions, the share that differs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    parts = observations if isinstance(observations, Mapping) else {"observation": observations}
    feed = {name: np.asarray(part, np.float32) for name, part in parts.items()}
    theirs: Array = session.run(None, feed)[0]
    ours = policy.act(observations)
    if theirs.shape != ours.shape:
        return float("inf")
    if not hasattr(action_space, "high") or theirs.dtype.kind == "i":
        return float((theirs != ours).mean())
    width = action_space.high - action_space.low
    return float((np.abs(theirs - ours) / width).max())
