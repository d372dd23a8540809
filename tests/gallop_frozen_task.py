"""A task that freezes: `how` says how, `at` and `at_worker` at which timestep of the process, in
the main process and in a worker. `gallop_frozen_task:Frozen-v0`."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import time

import gymnasium
import numpy as np
from gallop_shapes_task import Shapes

NEVER = 10**9


class Frozen(Shapes):
    """Random observations and rewards, until it freezes."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  (as Gymnasium's)
    n_timesteps = 0
    making_freezes, n_frozen = False, 0

    def __init__(self, how="sleep", at=NEVER, at_worker=NEVER, render_mode=None):
        super().__init__()
        if Frozen.making_freezes:
            Frozen.n_frozen += 1
            time.sleep(4)
        self.render_mode = render_mode
        self._how = how
        self._at = at if multiprocessing.parent_process() is None else at_worker

    def step(self, action):
        Frozen.n_timesteps += 1
        if Frozen.n_timesteps >= self._at:
            self._stop()
        return super().step(action)

    def render(self):
        if self._how == "render":
            time.sleep(NEVER)
        elif self._how == "stubborn":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print("drawing", file=sys.stderr, flush=True)
            time.sleep(NEVER)
        return np.full((64, 64, 3), Frozen.n_timesteps % 200 + 50, np.uint8)

    def _stop(self):
        if self._how == "sleep":
            time.sleep(NEVER)
        elif self._how == "loop":  # which an `except Exception` of its own does not leave
            while True:
                try:
                    time.sleep(0.01)
                except Exception:
                    continue
        elif self._how == "system":  # in C, with Python's lock released; no signal wakes it
            libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
            libc.pthread_mutex_lock(mutex)
            libc.pthread_mutex_lock(mutex)
        elif self._how == "locked":  # the same, with the GIL held
            libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(64)
            libc.pthread_mutex_lock(mutex)
            libc.pthread_mutex_lock(mutex)
        elif self._how == "exit":
            os._exit(3)
        elif self._how == "interrupt":
            raise KeyboardInterrupt
        elif self._how == "interrupt import":  # so do compiled modules that are loading
            raise ImportError("initialization failed") from KeyboardInterrupt()
        elif self._how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)


gymnasium.register("Frozen-v0", Frozen, max_episode_steps=20)
gymnasium.register("Unlimited-v0", Shapes)
