"""A task in which no hyper-parameter helps: rewards are noise from all bits of an action.

Any two policies differ in some bit, so their returns are independent: each is the sum of 20 unit
normals. The same policy always gets the same return.
"""

from __future__ import annotations

import hashlib
from statistics import NormalDist

import gymnasium
import numpy as np
from gymnasium import spaces

N_TIMESTEPS = 20
SIGMA = N_TIMESTEPS**0.5  # of a return


class Noise(gymnasium.Env):
    """The reward is a hash of the action and of everything before it."""

    observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, render_mode=None):
        self._hash = b""

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._hash = b""
        return self._observation(), {}

    def step(self, action):
        bits = np.asarray(action, np.float32).tobytes()
        self._hash = hashlib.blake2b(self._hash + bits, digest_size=8).digest()
        uniform = (int.from_bytes(self._hash, "little") + 0.5) / 2**64
        return self._observation(), NormalDist().inv_cdf(uniform), False, False, {}

    def _observation(self):
        return self.np_random.normal(size=3).astype(np.float32)


gymnasium.register("Noise-v0", Noise, max_episode_steps=N_TIMESTEPS)
