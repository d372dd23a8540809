"""A guard around a task: it checks what the task returns, and raises one-line errors.

It is the outermost wrapper of every environment that is stepped. The checks cost a few
microseconds per timestep (benchmarks/guard.py).

Importing this module imports Gymnasium.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from gallop.environments.spaces import Action, Env, Observation, Space
from gallop.environments.task_errors import as_number, close, failure, is_ours, say_once
from gallop.errors import DivergedError, TaskError, counted, described

LARGEST = float(np.finfo(np.float32).max)  # networks and replay buffers are float32
LARGEST_LEARNABLE = 1e15  # reward: the square of a sum of thousands still fits into float32

Info = dict[str, Any]


class Guard(gymnasium.Wrapper[Observation, Action, Observation, Action]):
    """Check what a task returns, and raise `TaskError` for what policies and learners cannot use.

    Its observations have the shape of the observation space (lists become arrays), rewards are
    floats, `terminated` and `truncated` are bools, and `info` is a dictionary.

    Attributes:
        training: whether rewards must be finite, and `info` is cut down to what learners use.
        largest_reward: limit of a reward's absolute value in training.
    """

    def __init__(
        self,
        env: Env,
        task: str,
        training: bool = False,
        largest_reward: float = LARGEST,
        note: Callable[[str], None] = say_once,
    ) -> None:
        """
        Args:
            env: the environment to guard.
            task: its id, for messages.
            training: refuse rewards that are not finite in float32, and pass on only those parts
                of `info` that learners use, so that nothing else in it can do harm.
            largest_reward: limit of a reward's absolute value in training.
            note: called with one line for each kind of value that is left out.
        """
        super().__init__(env)
        self._task, self._note = task, note
        self.training = training
        space = env.observation_space
        self._space = space
        self._is_box = isinstance(space, gymnasium.spaces.Box)
        self._shape = space.shape
        self.largest_reward = largest_reward

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Reset the task, as in Gymnasium.

        Raises:
            TaskError: if the task raises, or returns something else.
        """
        more = {} if options is None else {"options": options}
        try:
            result = self.env.reset(seed=seed, **more)
        except (Exception, SystemExit) as error:
            raise self.failure(error, "reset") from error
        if type(result) is not tuple or len(result) != 2:
            raise self._problem(f"reset must return (observation, info), not {_kind(result)}")
        return self._observation(result[0], "reset"), self._reset_info(result[1])

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """Step the task, as in Gymnasium.

        Raises:
            TaskError: if the task raises, or returns something that cannot be used.
            DivergedError: if the action contains NaN or infinity.
        """
        if type(action) is np.ndarray and not _is_finite(action):
            raise bad_action()
        try:
            result = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self.failure(error, "step") from error
        if type(result) is not tuple or len(result) != 5:
            raise self._problem(
                "step must return (observation, reward, terminated, truncated, info), "
                f"not {_kind(result)}"
            )
        observation, reward, terminated, truncated, info = result
        observation = self._observation(observation, "step")
        if type(reward) is not float:
            reward = self._number(reward, "reward")
        if type(terminated) is not bool:
            terminated = self._flag(terminated, "terminated")
        if type(truncated) is not bool:
            truncated = self._flag(truncated, "truncated")
        if not self.training:
            return observation, reward, terminated, truncated, self._whole(info)
        if not -self.largest_reward <= reward <= self.largest_reward:
            raise self.bad_reward(reward)
        if terminated or truncated:  # some tasks reuse the array for the next episode
            observation = copy.deepcopy(observation)
        return observation, reward, terminated, truncated, self._used(info, terminated or truncated)

    def render(self) -> Any:
        """Render the task, as in Gymnasium.

        Raises:
            TaskError: if the task raises.
        """
        try:
            return self.env.render()
        except (Exception, SystemExit) as error:
            raise self.failure(error, "render") from error

    def close(self) -> None:
        """Close the task; an exception that it raises is logged and otherwise ignored."""
        close(self.env)

    # --- observations ---

    def _observation(self, value: Observation, doing: str) -> Observation:
        """Return the observation if it fits the task's space and is finite."""
        is_plain = self._is_box and type(value) is np.ndarray and value.shape == self._shape
        if is_plain and value.dtype.kind in "fiub":
            if not _is_finite(value):
                raise self.not_finite(value)
            return value
        return self._converted(value, self._space, doing)

    def _converted(self, value: Any, space: Space, doing: str) -> Any:
        """Convert a value that is not a plain array of a Box space, or refuse it.

        The parts of a dictionary come here too, most of them as plain arrays.
        """
        spaces = gymnasium.spaces
        is_array = type(value) is np.ndarray and isinstance(space, spaces.Box)
        if is_array and value.shape == space.shape and value.dtype.kind in "fiub":
            if not _is_finite(value):
                raise self.not_finite(value)
            return value
        if isinstance(space, spaces.Dict):
            if not isinstance(value, Mapping) or not all(key in value for key in space.spaces):
                raise self._problem(
                    f"{doing} returned {_kind(value)} as the observation, expected a dictionary "
                    f"with the keys {', '.join(map(str, space.spaces))}"
                )
            return {k: self._converted(value[k], part, doing) for k, part in space.spaces.items()}
        if isinstance(space, spaces.Discrete):
            number = self._number(value, "observation")
            first, n = int(space.start), int(space.n)
            if not first <= number < first + n or number != int(number):
                raise self._problem(
                    f"{doing} returned {value!r} as the observation, expected {first} to "
                    f"{first + n - 1}"
                )
            return value
        if not isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
            return value  # learners have already refused such a space
        try:
            array = np.asarray(value)
            if array.dtype.kind == "O":
                array = np.asarray(value, space.dtype)
        except (TypeError, ValueError):
            array = np.asarray("")
        wanted = f"numbers of shape {space.shape}"
        if array.dtype.kind not in "fiub" or value is None:
            raise self._problem(
                f"{doing} returned {_kind(value)} as the observation, expected {wanted}"
            )
        if array.shape != space.shape:
            raise self._problem(
                f"{doing} returned an observation of shape {array.shape}, expected {space.shape}"
            )
        if not _is_finite(array):
            raise self.not_finite(array)
        return value if isinstance(value, np.ndarray) else array.astype(space.dtype)

    def not_finite(self, value: NDArray[Any]) -> TaskError:
        """The error for an observation that is not finite in float32."""
        flat = value.reshape(-1).astype(float)
        index = int(np.flatnonzero(~(np.abs(flat) <= LARGEST))[0])
        at = f" (index {index} of {flat.size} values)" if flat.size > 1 else ""
        return self._problem(f"returned {_named(flat[index])} in an observation{at}", "observation")

    # --- rewards, terminated and truncated, info ---

    def _number(self, value: Any, what: str) -> float:
        """Return a single number as a float."""
        number = as_number(value)
        if number is None:
            hint = ""
            if what == "reward" and isinstance(value, np.ndarray) and value.ndim == 1:
                hint = ": a wrapper must weigh its parts (--wrappers), such as "
                hint += "mo_gymnasium.wrappers:LinearReward, which adds them up"
            raise self._problem(f"returned {_kind(value)} as the {what}, expected a number{hint}")
        return number

    def bad_reward(self, reward: float) -> TaskError:
        """The error for a reward beyond the limit."""
        text = f"returned {_named(reward)} as the reward"
        if abs(reward) <= LARGEST:
            text = (
                f"returned {reward:.3g} as the reward, whose square overflows float32: scale "
                "rewards down, or use --normalize.rewards true"
            )
        return self._problem(text, "reward")

    def _flag(self, value: Any, what: str) -> bool:
        number = as_number(value)
        if number is None:
            raise self._problem(f"returned {_kind(value)} as `{what}`, expected True or False")
        return bool(number)

    def _whole(self, info: Any) -> Info:
        """Return the whole `info`, as evaluations use it."""
        if isinstance(info, dict):
            return info
        name = self._task.rpartition(":")[2]
        self._note(f"{name} returns {_kind(info)} as info, expected a dictionary: ignored")
        return {}

    def _reset_info(self, info: Any) -> Info:
        return {} if self.training else self._whole(info)

    def _used(self, info: Any, ended: bool) -> Info:
        """Return the parts of `info` that learners use."""
        if type(info) is not dict:
            info = self._whole(info)
        used: Info = {}
        if info.get("unstable_physics") is True:
            used["unstable_physics"] = True
        if ended and (success := info.get("is_success")) is not None:
            number = as_number(success)
            if number is None:
                name = self._task.rpartition(":")[2]
                self._note(
                    f"{name} returns {_kind(success)} as is_success, expected a number: ignored"
                )
            else:
                used["is_success"] = number
        return used

    def failure(self, error: BaseException, doing: str) -> BaseException:
        """The exception to raise for one that the task has raised in this method."""
        if is_ours(error):
            return error
        return failure(self._task, error, self.env, doing)

    def _problem(self, text: str, cause: str = "") -> TaskError:
        return TaskError(self._task, text, cause=cause)


def bad_action() -> DivergedError:
    """The error for an action that contains NaN or infinity."""
    return DivergedError("the policy returned NaN or infinity as an action", "action")


def check_spaces_can_be_sent(env: Env, task: str) -> None:
    """Refuse an environment whose spaces a worker process cannot send to its parent.

    Raises:
        TaskError: with the option that avoids worker processes.
    """
    try:
        ForkingPickler.dumps((env.observation_space, env.action_space))
    except Exception as error:
        problem = f"its spaces cannot be sent from a worker process: {described(error)}"
        raise TaskError(task, f"{problem}; use --vec-env dummy") from error


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether all values are finite, and in the range of float32.

    Counting is twice as fast as `all`. A dot product would be faster still, but some BLAS libraries
    warn of infinity, and all of them warn of large numbers.
    """
    if array.dtype.kind != "f":
        return True
    is_usable = np.isfinite(array) if array.itemsize <= 4 else np.abs(array) <= LARGEST
    return bool(np.count_nonzero(is_usable) == array.size)


def _named(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "infinity" if value > 0 else "minus infinity"
    return f"{value:.3g}, which overflows float32,"


def _kind(value: Any) -> str:
    """Describe a value's type and size in a few words."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {counted(len(value), 'value')}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
