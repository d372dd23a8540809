"""A task that kills its own process, or returns NaN, when it trains `trials/001` of a search.

A task cannot see the hyper-parameters of a trial, so it looks at the folder in the worker's command
line.
"""

from __future__ import annotations

import os
import signal
import sys

import gymnasium
from gallop_shapes_task import Shapes


class Dying(Shapes):
    """Random observations and rewards; dies at timestep 60, before the first boundary."""

    n_steps = 0

    def step(self, action):
        Dying.n_steps += 1
        if Dying.n_steps == 60 and "/trials/001/" in sys.argv[-1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Nan(Shapes):
    """Random observations, and a reward of NaN."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, float("nan") if "/trials/001/" in sys.argv[-1] else reward, *rest


gymnasium.register("Dying-v0", Dying, max_episode_steps=50)
gymnasium.register("Nan-v0", Nan, max_episode_steps=50)
