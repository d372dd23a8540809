"""Custom wrappers: shaped, clipped and normalised rewards, skipped frames."""

from __future__ import annotations

import time

import gymnasium
import numpy as np
from gymnasium.wrappers import ClipReward, NormalizeObservation


class Shaped(gymnasium.Wrapper):
    """Changes rewards in `step`."""

    def step(self, action):
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) + 1.0, *rest


class Fails(gymnasium.Wrapper):
    """Fails after a few timesteps."""

    n = 0

    def step(self, action):
        self.n += 1
        if self.n > 3:
            raise RuntimeError("broken")
        return self.env.step(action)


class Halved(gymnasium.RewardWrapper):
    def reward(self, reward):
        return reward / 2


class SkipsFrames(gymnasium.Wrapper):
    """Sums rewards without changing them."""

    def step(self, action):
        total = 0.0
        for _ in range(2):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, info


class StopsEarly(gymnasium.RewardWrapper):
    """A reward wrapper that changes more than rewards."""

    def reward(self, reward):
        return reward * 3

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated or reward < -1e9, info


class MyNormalizer(NormalizeObservation):
    pass


class RunningMeanStd:
    mean = np.zeros(3)


class Homemade(gymnasium.ObservationWrapper):
    """A wrapper with its own statistics."""

    def __init__(self, env):
        super().__init__(env)
        self.statistics = RunningMeanStd()

    def observation(self, observation):
        return observation - self.statistics.mean.astype(observation.dtype)


def hidden(env):
    """A function that wraps, and keeps statistics."""
    return gymnasium.wrappers.ClipAction(MyNormalizer(env))


def clipped_twice(env):
    return ClipReward(Halved(env), -0.5, 0.5)


class OwnActions(gymnasium.Wrapper):
    """Receives the task's own actions, and rewards large ones."""

    def step(self, action):
        assert self.unwrapped.action_space.contains(action), f"{action!r} is not valid"
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) + float(np.max(action)), *rest


class Sleeps(gymnasium.Wrapper):
    """Sleeps in its first timestep, or when it is made."""

    def __init__(self, env, made=False):
        super().__init__(env)
        if made:
            time.sleep(5)
        self._seconds = 5

    def step(self, action):
        time.sleep(self._seconds)
        self._seconds = 0
        return self.env.step(action)
