"""A task that raises an error in the first segment of training seed 1 only."""

from __future__ import annotations

import gymnasium
from gallop_shapes_task import Shapes

from gallop.experiments.seeding import segment_seed


class Breaking(Shapes):
    """Random observations and rewards, until a leg breaks."""

    def reset(self, *, seed=None, options=None):
        if seed == segment_seed(1, 0):
            raise RuntimeError("a leg broke")
        return super().reset(seed=seed, options=options)


gymnasium.register("Breaking-v0", Breaking, max_episode_steps=50)
