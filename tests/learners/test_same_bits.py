"""Zeros left out, a second thread, and gradient steps that begin early change no bit of a run."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from gallop.environments.vectorised import rebuild, training_environments
from gallop.experiments.yaml_file import from_dict
from gallop.learners.choose import choose_learner, make_learner
from gallop.policies import kernels

TIMESTEPS, SEGMENT = 5_000, 1_250

# HalfCheetah's actor and critics grow sparse within these timesteps, and the replay buffers of two
# cases are overwritten.
CASES = {
    "sac": ("sac", {"batch_size": 128, "learning_rate": 1.7e-3, "buffer_size": 3_750}),
    "td3": ("td3", {"batch_size": 100, "buffer_size": 3_750}),
    "tanh": (
        "sac",
        {"batch_size": 64, "policy_kwargs": {"net_arch": [128, 128], "activation_fn": "tanh"}},
    ),
    "odd": (
        "sac",
        {"batch_size": 37, "learning_rate": 1e-3, "policy_kwargs": {"net_arch": [131, 70, 97]}},
    ),
    "odd td3": ("td3", {"batch_size": 65, "policy_kwargs": {"net_arch": [90, 110]}}),
}


def trained(algo, hyperparameters, n_threads):
    """Every array of a learner after training in segments, as a run does."""
    settings = {"algo": algo, "env": "HalfCheetah-v5", "hyperparameters": hyperparameters}
    settings |= {"total_timesteps": TIMESTEPS, "learner": "native", "n_threads": n_threads}
    experiment = from_dict(settings)
    environments = training_environments(experiment)
    spaces = environments.observation_space, environments.action_space
    choice = choose_learner(experiment, *spaces)
    learner = make_learner(experiment, choice, environments, 0)
    for seed in range(TIMESTEPS // SEGMENT):
        rebuild(environments)
        learner.learn(environments, seed, SEGMENT, TIMESTEPS, lambda timestep: None)
    environments.close()
    arrays = dict(learner._own_arrays())
    for name, mlp in learner.networks.items():
        parts = ("parameters", "first_moment", "second_moment", "target")
        arrays |= {f"{name}.{part}": getattr(mlp, part) for part in parts}
    arrays |= learner.replay.read(learner.replay.n_added - 100, learner.replay.n_added)
    return {name: array.tobytes() for name, array in arrays.items() if array is not None}, learner


def share_of_zeros(learner):
    """Of the first critic's last hidden layer, on transitions of the replay buffer."""
    rows = learner.replay.read(learner.replay.n_added - 1000, learner.replay.n_added)
    x = np.concatenate([rows["observations"][:, 0], rows["actions"][:, 0]], axis=1)
    critic = learner.networks["critic0"]
    for weight, bias in critic.read(critic.parameters)[:-1]:
        x = np.maximum(x @ weight.T + bias, 0)
    return float((x == 0).mean())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_has_the_bits_of_dense_products(case, monkeypatch):
    algo, hyperparameters = CASES[case]
    engine = kernels.engine
    sparse, learner = trained(algo, hyperparameters, 2)
    if case != "tanh":
        assert share_of_zeros(learner) > 0.4, "nothing was left out"
    monkeypatch.setattr(kernels, "engine", partial(engine, sparse_below=0.0))
    dense, _ = trained(algo, hyperparameters, 1)
    assert sparse.keys() == dense.keys()
    assert [name for name in sparse if sparse[name] != dense[name]] == []
