"""A task that misbehaves in one of many ways: `kind` says how, at timestep `at` of training.

Evaluations reset with small seeds, training with large ones or none. So evaluations see the
misbehaviour only if `kind` is about evaluations, or harmless.
"""

from __future__ import annotations

import decimal
import threading
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

LARGEST_JUDGED_SEED = 100_000


class Misbehaving(gymnasium.Env):
    """A point that is pushed around."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 30}
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, kind="good", at=30, render_mode=None):
        self.kind, self.at, self.render_mode = kind, at, render_mode
        self.n = 0
        self.judged = True
        self.buffer = np.zeros(2, np.float32)
        if kind == "locked_space":
            self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
            self.observation_space.lock = threading.Lock()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.judged = seed < LARGEST_JUDGED_SEED
        now = not self.judged and self.n >= self.at
        if now and self.kind == "reset_raises":
            raise RuntimeError("motor cold")
        if self.kind == "judged_raises" and self.judged and seed and seed >= 20_000:
            raise RuntimeError("only evaluations fail")
        self.t, self.x = 0, self.np_random.normal(size=2).astype(np.float32)
        self.some = self.np_random.random() < 0.5
        observation = RESETS.get(self.kind, lambda task: (task.x.copy(), {}))(self)
        return (self.x.copy(), {}) if self.kind in LATE_RESETS and not now else observation

    def step(self, action):
        self.t += 1
        self.n += 1
        self.x[0] += 0.1 * float(np.asarray(action).reshape(-1)[0])
        step = [self.x.copy(), -float(abs(self.x[0])), False, False, {}]
        if self.kind in ALWAYS:
            return ALWAYS[self.kind](self, step, action)
        if self.kind in ONCE and not self.judged and self.n == self.at:
            return ONCE[self.kind](self, step)
        return tuple(step)

    def render(self):
        return np.zeros((64, 64, 3), np.uint8)

    def close(self):
        if self.kind == "close_raises":
            raise RuntimeError("already closed")


def raising(error):
    def step(task, step):
        raise error

    return step


def giving(**parts):
    """Replaces some of the five values that `step` returns."""
    places = ("observation", "reward", "terminated", "truncated", "info")

    def step(task, step):
        return tuple(parts.get(name, value) for name, value in zip(places, step, strict=True))

    return step


def telling(info):
    """Replaces `info` in every timestep."""

    def step(task, step, action):
        return (*step[:4], info(task) if callable(info) else info)

    return step


def poisoned(value):
    def step(task, step):
        step[0][1] = value
        return tuple(step)

    return step


def in_one_buffer(task, step, action):
    task.buffer[:] = task.x
    return task.buffer, *step[1:]


def in_place(task, step, action):
    action *= 0
    return tuple(step)


def judged(reward):
    def step(task, step, action):
        sick = task.judged and (task.some or task.kind != "judged_some")
        return step[0], reward if sick else step[1], *step[2:]

    return step


class UnspeakableError(Exception):
    def __str__(self):
        raise ValueError("no words")


RESETS = {
    "old_reset": lambda task: task.x.copy(),
    "reset_none": lambda task: None,
    "reset_shape": lambda task: (np.zeros(3, np.float32), {}),
    "reset_info_none": lambda task: (task.x.copy(), None),
    "late_old_reset": lambda task: task.x.copy(),
    "late_reset_nan": lambda task: (np.array([np.nan, 0], np.float32), {}),
}
LATE_RESETS = ("late_old_reset", "late_reset_nan")
ONCE = {
    "raises": raising(RuntimeError("a leg broke")),
    "raises_lines": raising(ValueError("first line\nsecond line\n" + "x" * 3000)),
    "raises_long": raising(ValueError("x" * 3000)),
    "raises_key": raising(KeyError("x")),
    "raises_nothing": raising(AssertionError()),
    "raises_escapes": raising(ValueError("\x1b[2Jgone")),
    "raises_own": raising(type("Tired", (Exception,), {})("of walking")),
    "raises_unspeakable": raising(UnspeakableError()),
    "raises_pipe": raising(BrokenPipeError(32, "Broken pipe")),
    "raises_os": raising(OSError(5, "Input/output error", "/dev/robot")),
    "raises_eof": raising(EOFError("no more input")),
    "raises_stop": raising(StopIteration("the log has ended")),
    "raises_exit": raising(SystemExit(3)),
    "raises_memory": raising(MemoryError("no more memory")),
    "observation_nan": poisoned(np.nan),
    "observation_inf": poisoned(-np.inf),
    "observation_huge": giving(observation=np.array([0.0, 1e39])),
    "observation_shape": giving(observation=np.zeros(3, np.float32)),
    "observation_column": giving(observation=np.zeros((2, 1), np.float32)),
    "observation_scalar": giving(observation=0.5),
    "observation_none": giving(observation=None),
    "observation_text": giving(observation="hello"),
    "observation_complex": giving(observation=np.zeros(2, np.complex64)),
    "observation_objects": giving(observation=np.array([None, object()])),
    "observation_dict": giving(observation={"a": 1}),
    "reward_nan": giving(reward=float("nan")),
    "reward_inf": giving(reward=float("inf")),
    "reward_huge": giving(reward=-1e300),
    "reward_large": giving(reward=1e30),
    "reward_none": giving(reward=None),
    "reward_text": giving(reward="1"),
    "reward_pair": giving(reward=np.zeros(2)),
    "reward_complex": giving(reward=1j),
    "end_none": giving(terminated=None),
    "end_text": giving(truncated="no"),
    "end_pair": giving(terminated=np.array([True, False])),
    "four": lambda task, step: tuple(step[:4]),
    "six": lambda task, step: (*step, 0),
    "nothing": lambda task, step: None,
    "reward_array": giving(reward=np.array([-1.0])),
    "reward_zero_d": giving(reward=np.array(-1.0)),
    "reward_int": giving(reward=-1),
    "reward_decimal": giving(
        reward=decimal.Decimal(-1)
    ),  # any SupportsFloat, such as PyTorch's numbers
    "end_array": giving(terminated=np.array([True])),
    "end_int": giving(terminated=1),
    "observation_list": giving(observation=[0.0, 1.0]),
    "observation_f64": giving(observation=np.zeros(2)),
    "info_none": giving(info=None),
    "info_text": giving(info="all well"),
}
ALWAYS = {
    "one_buffer": in_one_buffer,
    "in_place": in_place,
    "term_none": telling({"reward_contact": None}),
    "term_text": telling({"reward_shape": "sparse"}),
    "term_array": telling({"reward_parts": np.zeros(3)}),
    "term_complex": telling({"reward_z": 1 + 2j}),
    "key_number": telling({0: 1.5, ("a", 1): 1.5}),
    "success_pair": telling({"is_success": np.array([1.0, 0.0])}),
    "success_text": telling({"is_success": "yes"}),
    "success_array": telling(lambda task: {"is_success": np.array([1.0])}),
    "episode_text": telling(lambda task: {"episode": "training"}),
    "episode_own": telling(lambda task: {"episode": {"r": "a"}}),
    "truncated_text": telling(lambda task: {"TimeLimit.truncated": "yes"}),
    "terminal_none": telling(lambda task: {"terminal_observation": None}),
    "unstable_false": telling(lambda task: {"unstable_physics": False}),
    "info_function": telling(lambda task: {"f": lambda: 1}),
    "info_lock": telling(lambda task: {"lock": threading.Lock()}),
    "unstable": lambda task, step, action: (*step[:3], True, {"unstable_physics": True}),
    "judged_nan": judged(float("nan")),
    "judged_inf": judged(float("-inf")),
    "judged_some": judged(float("nan")),
}

gymnasium.register("Misbehaving-v0", Misbehaving, max_episode_steps=20)
gymnasium.register("Endless-v0", Misbehaving)
