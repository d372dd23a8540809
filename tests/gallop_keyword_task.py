"""Custom tasks whose keyword arguments have names that Gallop uses, too."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.envs.classic_control.pendulum import PendulumEnv


class Named(PendulumEnv):
    """`gallop_keyword_task:Named-v0`."""

    def __init__(
        self, model_path="", seed=0, task="swing", wrappers=(), name="", own_rewards=False, **kwargs
    ):
        super().__init__(**kwargs)
        self.given = [model_path, seed, task, wrappers, name, own_rewards]


class ByKwargs(PendulumEnv):
    """`gallop_keyword_task:ByKwargs-v0` takes any keyword argument."""

    def __init__(self, render_mode=None, **kwargs):
        super().__init__(render_mode=render_mode)
        self.given = kwargs


def by_factory(**kwargs: Any) -> Any:
    """Makes `gallop_keyword_task:ByFactory-v0`."""
    env = PendulumEnv(render_mode=kwargs.pop("render_mode", None))
    env.given = kwargs
    return env


for id_, made_by in (("Named", Named), ("ByKwargs", ByKwargs), ("ByFactory", by_factory)):
    if f"{id_}-v0" not in gymnasium.registry:
        gymnasium.register(f"{id_}-v0", made_by, max_episode_steps=50)
