"""A custom MuJoCo task that is not a `MujocoEnv`: a crate that is pushed along the floor.

`gallop_mujoco_task:Crate-v0`
"""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

CRATE = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <geom type="plane" size="50 50 1"/>
    <body pos="0 0 0.1"><freejoint/><geom type="box" size="0.1 0.1 0.1" mass="1"/><site name="s"/>
    </body>
  </worldbody>
  <actuator><motor site="s" gear="20 0 0 0 0 0" ctrlrange="-1 1" ctrllimited="true"/></actuator>
</mujoco>
"""


class Crate(gymnasium.Env):
    """The reward is the speed.

    From timestep `broken_at` on, it observes NaN in the episodes of odd seeds, or in all.
    """

    def __init__(self, render_mode=None, broken_at=None, all_break=False, fails=False):
        self.model = mujoco.MjModel.from_xml_string(CRATE)
        self.data = mujoco.MjData(self.model)
        self._broken_at, self._all_break, self._fails = broken_at, all_break, fails
        self.action_space = spaces.Box(-1, 1, (1,))
        self.observation_space = spaces.Box(-np.inf, np.inf, (13,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qvel[0] = self.np_random.uniform()
        self._breaks, self._n = self._all_break or bool(seed and seed % 2), 0
        return self._observation(), {}

    def step(self, action):
        if self._fails:
            raise RuntimeError("the crate is gone")
        self._n += 1
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, 4)
        return self._observation(), float(self.data.qvel[0]), False, False, {}

    def _observation(self):
        observed = np.concatenate([self.data.qpos, self.data.qvel])
        if self._broken_at is not None and self._breaks and self._n >= self._broken_at:
            observed[:] = np.nan
        return observed


if "Crate-v0" not in gymnasium.registry:
    gymnasium.register("Crate-v0", Crate, max_episode_steps=30)
