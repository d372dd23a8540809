"""What Gymnasium's MuJoCo tasks observe and reward: the table behind the fast path (physics.py).

Each function reads the settings and the simulator's arrays of one environment.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NotRequired, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

# The version of Gymnasium whose formulas these are. With any other one, tasks step themselves.
GYMNASIUM = "1.4.0"

LARGEST_TASK_NUMBER = 2.0**24  # of integer settings: float32 represents them exactly

Doubles: TypeAlias = NDArray[np.float64]
Bounded: TypeAlias = tuple[Doubles, float, float]
"""Numbers of a simulator, and the bounds to which they are clipped."""
Condition: TypeAlias = tuple[Doubles, float, float, bool]
"""Numbers, the bounds between which all of them have to be, and whether these are included."""


class Terms(TypedDict):
    """What a task observes and rewards; see `_kernels.Physics.add`."""

    observation: list[Bounded]
    position: Doubles
    mass: NotRequired[Doubles]
    total_mass: NotRequired[float]
    health: NotRequired[list[Condition]]
    terminates: NotRequired[bool]
    forward_weight: float
    healthy_reward: NotRequired[float]
    control_weight: float
    control_in_double: NotRequired[bool]
    contact_weight: NotRequired[float]
    contact_forces: NotRequired[Bounded]
    contact_cost: NotRequired[tuple[float, float]]


class UnusualError(Exception):
    """An environment is not exactly as the fast path knows it."""


def _half_cheetah(env: Any) -> Terms:
    return {
        "observation": _positions_and_velocities(env, n_hidden=1),
        "position": env.data.qpos,
        "forward_weight": _number(env._forward_reward_weight),
        "control_weight": _number(env._ctrl_cost_weight),
    }


def _swimmer(env: Any) -> Terms:
    return {
        **_half_cheetah(env),
        "observation": _positions_and_velocities(env, n_hidden=2),
    }


def _walker2d(env: Any) -> Terms:
    positions = env.data.qpos
    return {
        **_half_cheetah(env),
        "health": [
            (positions[1:2], *_pair(env._healthy_z_range), False),
            (positions[2:3], *_pair(env._healthy_angle_range), False),
        ],
        "healthy_reward": _number(env._healthy_reward),
        "terminates": _flag(env._terminate_when_unhealthy),
        "observation": _positions_and_velocities(env, n_hidden=1, fastest=10.0),
    }


def _hopper(env: Any) -> Terms:
    positions, velocities = env.data.qpos, env.data.qvel
    low, high = _pair(env._healthy_state_range)
    terms = _walker2d(env)
    terms["health"] += [(positions[2:], low, high, False), (velocities, low, high, False)]
    return terms


def _ant(env: Any) -> Terms:
    data = env.data
    low, high = _pair(env._contact_force_range)
    observation = _positions_and_velocities(env, n_hidden=2)
    if _flag(env._include_cfrc_ext_in_observation):
        observation.append((data.cfrc_ext[1:], low, high))
    return {
        "observation": observation,
        "position": data.xpos[data.body(env._main_body).id],
        "forward_weight": _number(env._forward_reward_weight),
        "health": [
            (data.qpos, -math.inf, math.inf, False),
            (data.qvel, -math.inf, math.inf, False),
            (data.qpos[2:3], *_pair(env._healthy_z_range), True),
        ],
        "healthy_reward": _number(env._healthy_reward),
        "terminates": _flag(env._terminate_when_unhealthy),
        "control_weight": _number(env._ctrl_cost_weight),
        "contact_weight": _number(env._contact_cost_weight),
        "contact_forces": (data.cfrc_ext, low, high),
    }


def _humanoid(env: Any) -> Terms:
    data, model = env.data, env.model
    if not _einsum_rounds_products():
        raise UnusualError
    observation = _positions_and_velocities(env, n_hidden=2)
    for shown, numbers in (
        (env._include_cinert_in_observation, data.cinert[1:]),
        (env._include_cvel_in_observation, data.cvel[1:]),
        (env._include_qfrc_actuator_in_observation, data.qfrc_actuator[6:]),
        (env._include_cfrc_ext_in_observation, data.cfrc_ext[1:]),
    ):
        if _flag(shown):
            observation.append(_whole(numbers))
    return {
        "observation": observation,
        "position": data.xipos,
        "mass": model.body_mass,
        "total_mass": float(model.body_mass.sum()),
        "forward_weight": _number(env._forward_reward_weight),
        "health": [(data.qpos[2:3], *_pair(env._healthy_z_range), False)],
        "healthy_reward": _number(env._healthy_reward),
        "terminates": _flag(env._terminate_when_unhealthy),
        "control_weight": _number(env._ctrl_cost_weight),
        "control_in_double": True,  # of MjData's controls
        "contact_weight": _number(env._contact_cost_weight),
        "contact_forces": _whole(data.cfrc_ext),
        "contact_cost": _pair(env._contact_cost_range),
    }


_FORWARD_AND_CONTROL = ("reward_forward", "reward_ctrl")

TASKS: dict[str, tuple[Callable[[Any], Terms], tuple[str, ...]]] = {
    f"gymnasium.envs.mujoco.{module}:{name}": (terms, reported)
    for module, name, terms, reported in (
        ("half_cheetah_v5", "HalfCheetahEnv", _half_cheetah, _FORWARD_AND_CONTROL),
        ("hopper_v5", "HopperEnv", _hopper, (*_FORWARD_AND_CONTROL, "reward_survive")),
        ("walker2d_v5", "Walker2dEnv", _walker2d, (*_FORWARD_AND_CONTROL, "reward_survive")),
        ("ant_v5", "AntEnv", _ant, (*_FORWARD_AND_CONTROL, "reward_contact", "reward_survive")),
        ("swimmer_v5", "SwimmerEnv", _swimmer, _FORWARD_AND_CONTROL),
        (
            "humanoid_v5",
            "HumanoidEnv",
            _humanoid,
            ("reward_survive", *_FORWARD_AND_CONTROL, "reward_contact"),
        ),
    )
}
"""Gymnasium's class of a task -> what it observes and rewards, and the terms of the reward that it
reports in `info`, in its order."""


def _positions_and_velocities(env: Any, n_hidden: int, fastest: float = math.inf) -> list[Bounded]:
    """The usual observation.

    Args:
        env: the task.
        n_hidden: positions that the observation leaves out, unless the task is told otherwise.
        fastest: bound of a velocity.
    """
    first = n_hidden if _flag(env._exclude_current_positions_from_observation) else 0
    return [_whole(env.data.qpos[first:]), (env.data.qvel, -fastest, fastest)]


def _whole(numbers: Doubles) -> Bounded:
    return numbers, -math.inf, math.inf


def _number(value: Any) -> float:
    """A setting of a task that is a number."""
    is_whole = type(value) is int and abs(value) <= LARGEST_TASK_NUMBER
    if not is_whole and (type(value) is not float or math.isnan(value)):
        raise UnusualError
    return float(value)


def _pair(values: Any) -> tuple[float, float]:
    if type(values) not in (tuple, list) or len(values) != 2:
        raise UnusualError
    return _number(values[0]), _number(values[1])


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise UnusualError
    return value


@functools.cache
def _einsum_rounds_products() -> bool:
    """Whether NumPy's einsum, with which Humanoid finds its centre of mass, rounds each product.

    On some processors it adds products without rounding them first.
    """
    rng = np.random.default_rng(0)
    mass, positions = rng.uniform(1, 9, 50), rng.normal(size=(50, 14, 3))
    for centres in positions:
        plain = np.zeros(3)
        for m, centre in zip(mass[:14], centres, strict=True):
            plain += m * centre
        if not np.array_equal(np.einsum("b,bj->j", mass[:14], centres), plain):
            return False
    return True
