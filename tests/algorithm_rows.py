"""What the tests need to know of each algorithm. A new algorithm needs only a row here."""

from __future__ import annotations

from typing import Any, NamedTuple

from gallop.algorithms.table import ALGORITHMS

NATIVE, SB3 = ("native",), ("sb3",)
BOTH = ("native", "sb3")


class Row(NamedTuple):
    """What the tests need to know of one algorithm."""

    tiny: dict[str, Any]
    """Hyper-parameters for three segments of 120 timesteps, with episodes of 50, on Pendulum-v1."""
    contract: dict[str, tuple[tuple[str, ...], dict[str, Any]]]
    """Name of a case of the contract suite -> learners, and settings in addition to `tiny`."""
    killed: dict[str, str]
    """YAML settings of the run of 600 timesteps that is killed."""
    kills: list[tuple[int, float]]
    """Boundary to wait for, then seconds: in the middle of segments, evaluations, writes."""


ROWS = {
    "sac": Row(
        # The buffer of 150 wraps around in the second segment.
        tiny={"buffer_size": 150, "batch_size": 16, "learning_starts": 31},
        contract={
            "buffer wraps": (BOTH, {}),
            "fixed entropy coefficient": (
                NATIVE,
                {"hyperparameters": {"ent_coef": 0.1, "policy_kwargs": {"activation_fn": "tanh"}}},
            ),
            "2 environments": (BOTH, {"n_envs": 2, "hyperparameters": {"utd": 0.5}}),
            "normalised, worker processes": (
                NATIVE,
                {"n_envs": 2, "vec_env": "subproc", "normalize": True,
                 "hyperparameters": {"utd": 2}},
            ),
            "gSDE": (SB3, {"hyperparameters": {"use_sde": True}}),
            # Segments end in the middle of an episode, and the buffer in another.
            "HER": (
                SB3,
                {"env": "gallop_goal_task:Place-v0", "n_envs": 2, "normalize": True,
                 "hyperparameters": {"replay_buffer": "her", "learning_starts": 100,
                                     "buffer_size": 190}},
            ),
        },
        # The replay buffer wraps around in the third segment.
        killed={"n_envs": "1", "normalize": "{observations: true}",
                "hyperparameters": "buffer_size: 250, batch_size: 16, learning_starts: 31"},
        kills=[(100, 0.0), (300, 0.3), (500, 0.02)],
    ),
    "td3": Row(
        # An odd number of gradient steps at the boundaries: TD3's delayed policy depends on it.
        tiny={"buffer_size": 5000, "batch_size": 16, "learning_starts": 31},
        contract={
            "with noise": (BOTH, {}),
            "2 environments": (BOTH, {"n_envs": 2, "normalize": {"observations": True}}),
            "Ornstein-Uhlenbeck": (
                SB3, {"hyperparameters": {"noise_type": "ornstein-uhlenbeck"}}
            ),
        },
        killed={"n_envs": "2", "normalize": "{}",
                "hyperparameters": "batch_size: 16, learning_starts: 31"},
        kills=[(200, 0.1), (600, 0.01)],
    ),
    "ppo": Row(
        tiny={"n_steps": 30, "batch_size": 15, "n_epochs": 2},
        contract={
            "normalised": (BOTH, {"normalize": True}),
            "2 environments": (
                BOTH, {"n_envs": 2, "normalize": True, "hyperparameters": {"clip_range_vf": 0.2}}
            ),
            "early stop": (NATIVE, {"hyperparameters": {"target_kl": 1e-4}}),
            "discrete, worker processes": (
                BOTH, {"env": "CartPole-v1", "n_envs": 2, "vec_env": "subproc"}
            ),
        },
        killed={"n_envs": "2", "normalize": "true",
                "hyperparameters": "n_steps: 25, batch_size: 10, n_epochs: 2"},
        kills=[(100, 0.0), (200, 0.05), (500, 0.0)],
    ),
    "tqc": Row(
        tiny={"buffer_size": 150, "batch_size": 16, "learning_starts": 31},
        contract={
            "buffer wraps": (SB3, {}),
            "other quantiles": (
                SB3,
                {"hyperparameters": {
                    "top_quantiles_to_drop_per_net": 1,
                    "policy_kwargs": {"net_arch": [16], "n_quantiles": 5, "n_critics": 3}}},
            ),
            "gSDE, 2 environments": (SB3, {"n_envs": 2, "hyperparameters": {"use_sde": True}}),
        },
        killed={"n_envs": "2", "normalize": "{observations: true}",
                "hyperparameters": "buffer_size: 250, batch_size: 16, learning_starts: 31"},
        kills=[(100, 0.0), (300, 0.05), (500, 0.01)],
    ),
    "crossq": Row(
        # 89 gradient steps until the first boundary, which policy_delay does not divide.
        tiny={"buffer_size": 150, "batch_size": 16, "learning_starts": 31},
        contract={
            "buffer wraps": (SB3, {}),
            "warm-up of the statistics ends": (
                SB3,
                {"normalize": {"observations": True},
                 "hyperparameters": {"policy_kwargs": {"net_arch": {"pi": [16], "qf": [24]},
                                                       "renorm_warmup_steps": 100}}},
            ),
            "gSDE, 2 environments": (SB3, {"n_envs": 2, "hyperparameters": {"use_sde": True}}),
        },
        killed={"n_envs": "1", "normalize": "{}",
                "hyperparameters": "buffer_size: 250, batch_size: 16, learning_starts: 31"},
        kills=[(100, 0.0), (200, 0.1), (500, 0.01)],
    ),
}  # fmt: skip


def learners_of(algo: str) -> tuple[str, ...]:
    """The learners that train an algorithm."""
    return BOTH if ALGORITHMS[algo].native_class else SB3


EVERY = [(algo, learner) for algo in ALGORITHMS for learner in learners_of(algo)]
"""Every algorithm with each of its learners."""
