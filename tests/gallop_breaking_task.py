"""A task that breaks in the first segment of training seed 1, and of no other."""

from __future__ import annotations

import gymnasium
from gallop_shapes_task import Shapes

from gallop.experiments.seeding import segment_seed


class Breaking(Shapes):
    """Noise in, noise out, and a leg that breaks."""

    def reset(self, *, seed=None, options=None):
        if seed == segment_seed(1, 0):
            raise RuntimeError("a leg broke")
        return super().reset(seed=seed, options=options)


gymnasium.register("Breaking-v0", Breaking, max_episode_steps=50)
