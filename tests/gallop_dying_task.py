"""Tasks that kill their own process, return NaN or wait when they train trials of a search.

A task cannot see the hyper-parameters of a trial, so it looks at the folder in the worker's command
line.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

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


class Waiting(Shapes):
    """Random observations and rewards; a trial does not go on until the file `until` exists."""

    def __init__(self, until=None):
        super().__init__()
        self._until = until

    def step(self, action):
        while "/trials/" in sys.argv[-1] and not Path(self._until).exists():
            time.sleep(0.05)
        return super().step(action)


gymnasium.register("Dying-v0", Dying, max_episode_steps=50)
gymnasium.register("Nan-v0", Nan, max_episode_steps=50)
gymnasium.register("Waiting-v0", Waiting, max_episode_steps=50)
