"""A guard around a task: what it gives is checked, and what cannot be used is named in one line.

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
from gallop.errors import DivergedError, TaskError, described

LARGEST = float(np.finfo(np.float32).max)  # networks and replay buffers are float32
LARGEST_LEARNABLE = 1e15  # reward: squares of the sum of thousands of them are still in its range

Info = dict[str, Any]


class Guard(gymnasium.Wrapper[Observation, Action, Observation, Action]):
    """Checks what a task gives, and raises `TaskError` for what cannot be used.

    Observations have the space's shape (lists become arrays), rewards are floats, ends are bools,
    `info` is a dictionary.
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
            task: its id, for messages.
            training: refuse rewards that are not finite numbers of float32, and hand on of `info`
                only what learners use, so that nothing else in it can do harm.
            largest_reward: in training, either way.
            note: told of values that are left out.
        """
        super().__init__(env)
        self._task, self._training, self._note = task, training, note
        space = env.observation_space
        self._space = space
        self._is_box = isinstance(space, gymnasium.spaces.Box)
        self._shape = space.shape
        self._largest = largest_reward

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """As Gymnasium's.

        Raises:
            TaskError: if the task raises, or gives something else.
        """
        more = {} if options is None else {"options": options}
        try:
            result = self.env.reset(seed=seed, **more)
        except (Exception, SystemExit) as error:
            raise self._failure(error, "reset") from error
        if type(result) is not tuple or len(result) != 2:
            raise self._problem(f"reset must return (observation, info), not {_kind(result)}")
        return self._observation(result[0], "reset"), self._reset_info(result[1])

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, Info]:
        """As Gymnasium's.

        Raises:
            TaskError: if the task raises, or gives something that cannot be used.
            DivergedError: if the action holds NaN or infinity.
        """
        if type(action) is np.ndarray and not _is_finite(action):
            raise DivergedError("the policy gave NaN or infinity as an action", "action")
        try:
            result = self.env.step(action)
        except (Exception, SystemExit) as error:
            raise self._failure(error, "step") from error
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
        if not self._training:
            return observation, reward, terminated, truncated, self._whole(info)
        if not -self._largest <= reward <= self._largest:
            raise self._bad_reward(reward)
        if terminated or truncated:  # some tasks write the next episode into the same array
            observation = copy.deepcopy(observation)
        return observation, reward, terminated, truncated, self._used(info, terminated or truncated)

    def render(self) -> Any:
        """As Gymnasium's."""
        try:
            return self.env.render()
        except (Exception, SystemExit) as error:
            raise self._failure(error, "render") from error

    def close(self) -> None:
        """Close the task; what it raises then is logged."""
        close(self.env)

    # --- observations ---

    def _observation(self, value: Observation, doing: str) -> Observation:
        """The observation, if it is one of the task's space and holds finite numbers."""
        is_plain = self._is_box and type(value) is np.ndarray and value.shape == self._shape
        if is_plain and value.dtype.kind in "fiub":
            if not _is_finite(value):
                raise self._not_finite(value)
            return value
        return self._converted(value, self._space, doing)

    def _converted(self, value: Any, space: Space, doing: str) -> Any:
        """A value that is no plain array of a Box space: made one, or refused.

        The parts of a dictionary come here too, most of them as plain arrays.
        """
        spaces = gymnasium.spaces
        is_array = type(value) is np.ndarray and isinstance(space, spaces.Box)
        if is_array and value.shape == space.shape and value.dtype.kind in "fiub":
            if not _is_finite(value):
                raise self._not_finite(value)
            return value
        if isinstance(space, spaces.Dict):
            if not isinstance(value, Mapping) or not all(key in value for key in space.spaces):
                raise self._problem(
                    f"{doing} gave {_kind(value)} as an observation, not a dictionary with the "
                    f"keys {', '.join(map(str, space.spaces))}"
                )
            return {k: self._converted(value[k], part, doing) for k, part in space.spaces.items()}
        if isinstance(space, spaces.Discrete):
            number = self._number(value, "observation")
            first, n = int(space.start), int(space.n)
            if not first <= number < first + n or number != int(number):
                raise self._problem(
                    f"{doing} gave {value!r} as an observation, not one of {first} to "
                    f"{first + n - 1}"
                )
            return value
        if not isinstance(space, spaces.Box | spaces.MultiDiscrete | spaces.MultiBinary):
            return value  # the learners have refused such a space already
        try:
            array = np.asarray(value)
            if array.dtype.kind == "O":
                array = np.asarray(value, space.dtype)
        except (TypeError, ValueError):
            array = np.asarray("")
        wanted = f"numbers of shape {space.shape}"
        if array.dtype.kind not in "fiub" or value is None:
            raise self._problem(
                f"{doing} gave {_kind(value)} as an observation; its space says {wanted}"
            )
        if array.shape != space.shape:
            raise self._problem(
                f"{doing} gave an observation of shape {array.shape}; its space says {space.shape}"
            )
        if not _is_finite(array):
            raise self._not_finite(array)
        return value if isinstance(value, np.ndarray) else array.astype(space.dtype)

    def _not_finite(self, value: NDArray[Any]) -> TaskError:
        flat = value.reshape(-1).astype(float)
        index = int(np.flatnonzero(~(np.abs(flat) <= LARGEST))[0])
        at = f" (number {index} of {flat.size})" if flat.size > 1 else ""
        return self._problem(f"gave {_named(flat[index])} in an observation{at}", "observation")

    # --- rewards, ends, info ---

    def _number(self, value: Any, what: str) -> float:
        """A single number as a float."""
        number = as_number(value)
        if number is None:
            raise self._problem(f"gave {_kind(value)} as {_article(what)}, not a number")
        return number

    def _bad_reward(self, reward: float) -> TaskError:
        text = f"gave {_named(reward)} as a reward"
        if abs(reward) <= LARGEST:
            text = (
                f"gave {reward:.3g} as a reward, whose square is more than float32 holds: scale "
                "rewards down, or --normalize.rewards true"
            )
        return self._problem(text, "reward")

    def _flag(self, value: Any, what: str) -> bool:
        number = as_number(value)
        if number is None:
            raise self._problem(f"gave {_kind(value)} as `{what}`, not True or False")
        return bool(number)

    def _whole(self, info: Any) -> Info:
        """All that the task says, for evaluations."""
        if isinstance(info, dict):
            return info
        name = self._task.rpartition(":")[2]
        self._note(f"{name} gives {_kind(info)} as info, not a dictionary: left out")
        return {}

    def _reset_info(self, info: Any) -> Info:
        return {} if self._training else self._whole(info)

    def _used(self, info: Any, ended: bool) -> Info:
        """What learners use of it."""
        if type(info) is not dict:
            info = self._whole(info)
        used: Info = {}
        if info.get("unstable_physics") is True:
            used["unstable_physics"] = True
        if ended and (success := info.get("is_success")) is not None:
            number = as_number(success)
            if number is None:
                name = self._task.rpartition(":")[2]
                self._note(f"{name} gives {_kind(success)} as is_success, no number: left out")
            else:
                used["is_success"] = number
        return used

    def _failure(self, error: BaseException, doing: str) -> BaseException:
        if is_ours(error):
            return error
        return failure(self._task, error, self.env, doing)

    def _problem(self, text: str, cause: str = "") -> TaskError:
        return TaskError(self._task, text, cause=cause)


def check_spaces_can_be_sent(env: Env, task: str) -> None:
    """Refuse an environment whose spaces no worker process can send to its parent.

    Raises:
        TaskError: with what helps.
    """
    try:
        ForkingPickler.dumps((env.observation_space, env.action_space))
    except Exception as error:
        problem = f"its spaces cannot be sent from a worker process: {described(error)}"
        raise TaskError(task, f"{problem}; --vec-env dummy helps") from error


def _is_finite(array: NDArray[Any]) -> bool:
    """Whether all numbers are finite, and in the range of float32.

    Counting is twice as fast as `all`. A dot product would be faster still, but warns of infinity
    with some BLAS libraries, and of large numbers with all.
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
    return f"{value:.3g}, more than float32 holds,"


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"


def _kind(value: Any) -> str:
    """What a value is, in few words."""
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)} values"
    if isinstance(value, str):
        return "text"
    return f"a {type(value).__name__}"
