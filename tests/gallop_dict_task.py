"""A custom task: Pendulum with Dict observations, `gallop_dict_task:DictPendulum-v0`."""

from __future__ import annotations

import gymnasium
from gymnasium import spaces
from gymnasium.envs.classic_control.pendulum import PendulumEnv


class DictPendulum(PendulumEnv):
    def __init__(self, render_mode=None, g=10.0):
        super().__init__(render_mode=render_mode, g=g)
        low, high = self.observation_space.low, self.observation_space.high
        self.observation_space = spaces.Dict(
            {
                "direction": spaces.Box(low[:2], high[:2]),
                "velocity": spaces.Box(low[2:], high[2:]),
            }
        )

    def _get_obs(self):
        both = super()._get_obs()
        return {"direction": both[:2], "velocity": both[2:]}


if "DictPendulum-v0" not in gymnasium.registry:
    gymnasium.register("DictPendulum-v0", DictPendulum, max_episode_steps=200)
