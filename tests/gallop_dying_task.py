"""A task that kills its own process, or returns no number, in training `trials/001` of a search.

Importing it under a search is all that a task can do; it cannot see hyper-parameters, so it looks
at the folder that the worker was told to bring to its end.
"""

from __future__ import annotations

import os
import signal
import sys

import gymnasium
from gallop_shapes_task import Shapes


class Dying(Shapes):
    """Noise in, noise out, and death at the 60th timestep: before the first boundary."""

    n_steps = 0

    def step(self, action):
        Dying.n_steps += 1
        if Dying.n_steps == 60 and "/trials/001/" in sys.argv[-1]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


class Nan(Shapes):
    """Noise in, noise out, and a reward that is not a number."""

    def step(self, action):
        observation, reward, *rest = super().step(action)
        return observation, float("nan") if "/trials/001/" in sys.argv[-1] else reward, *rest


gymnasium.register("Dying-v0", Dying, max_episode_steps=50)
gymnasium.register("Nan-v0", Nan, max_episode_steps=50)
