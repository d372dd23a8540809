"""Train on your own task, with your own wrapper.

    python examples/own_task_and_wrapper.py

An experiment names a task by its Gymnasium id and a wrapper by its import path. The prefix of
`own_task_and_wrapper:Reach-v0` is the module that registers the id, which here is this very file.
"""

import gymnasium
import numpy as np
from gymnasium import spaces

import gallop


class Reach(gymnasium.Env):
    """Push a point on a line to 0 and keep it there.

    The observation is the position and the speed of the point, the action is the force on it.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-10, 10, (2,), np.float32)
        self.action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)  # seeds self.np_random, so that every episode can be repeated
        self._state = self.np_random.uniform(-1, 1, 2)
        return self._state.astype(np.float32), {}

    def step(self, action):
        position, speed = self._state
        speed = 0.9 * speed + 0.1 * float(action[0])
        self._state = np.clip([position + 0.1 * speed, speed], -10, 10)
        # observation, reward, terminated, truncated, info; the time limit below truncates.
        return self._state.astype(np.float32), -abs(position), False, False, {}


class Scaled(gymnasium.RewardWrapper):
    """Multiply rewards by a factor."""

    def __init__(self, env: gymnasium.Env, factor: float) -> None:
        super().__init__(env)
        self.factor = factor

    def reward(self, reward):
        return self.factor * float(reward)


if __name__ != "__main__":  # imported, by the id own_task_and_wrapper:Reach-v0
    gymnasium.register("Reach-v0", entry_point=Reach, max_episode_steps=100)
else:
    experiment = gallop.experiment(
        algo="sac",
        env="own_task_and_wrapper:Reach-v0",
        wrappers=[{"own_task_and_wrapper:Scaled": {"factor": 0.1}}],
        total_timesteps=4_000,
        hyperparameters={"policy_kwargs": {"net_arch": [32, 32]}},
        films=False,  # this task cannot be rendered
    )
    run = gallop.run(experiment)

    # `Scaled` changes nothing but rewards, so evaluations leave it out: this is the task's own
    # return.
    print("return of the best policy:", gallop.evaluate(run).returns.mean())
