"""The algorithms learn in whole runs on real tasks, for minutes each: `make test-slow`, CI."""

from __future__ import annotations

import json

import pytest

from gallop.experiments.yaml_file import from_dict
from gallop.report.display import Display
from gallop.runs.workflow import run

pytestmark = pytest.mark.slow


def trained(tmp_path, **settings):
    """meta.json of the last milestone of a whole run without films."""
    experiment = from_dict({"films": False, "audit": False, **settings})
    folder = run(experiment, results=tmp_path, name="a", display=Display(quiet=True))
    return json.loads((folder.milestone(100).path / "meta.json").read_text())


def test_ppo_solves_cartpole(tmp_path):
    # Hyper-parameters of rl-baselines3-zoo for CartPole-v1.
    meta = trained(
        tmp_path,
        algo="ppo",
        env="CartPole-v1",
        n_envs=8,
        total_timesteps=96_000,
        segment=8_000,
        evaluation={"interval": 24_000},
        hyperparameters={
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "learning_rate": "lin_0.001",
            "clip_range": "lin_0.2",
        },
    )
    assert meta["return"]["mean"] >= 475


def test_sac_swings_the_pendulum_up(tmp_path):
    meta = trained(
        tmp_path,
        algo="sac",
        env="Pendulum-v1",
        total_timesteps=8_000,
        hyperparameters={
            "learning_rate": 1e-3,
            "batch_size": 128,
            "policy_kwargs": {"net_arch": [64, 64]},
        },
    )
    assert meta["return"]["mean"] >= -200


def test_td3_trains_on_hopper_whose_episodes_terminate(tmp_path):
    meta = trained(
        tmp_path,
        algo="td3",
        env="Hopper-v5",
        total_timesteps=16_000,
        segment=4_000,
        evaluation={"interval": 4_000},
        hyperparameters={"batch_size": 100, "policy_kwargs": {"net_arch": [128, 128]}},
    )
    # The random policy has a return of about 20.
    assert meta["compared_to_random"]["difference"]["interval"][0] > 100


def test_a_task_with_dict_observations_trains(tmp_path):
    meta = trained(
        tmp_path,
        algo="sac",
        env="gallop_dict_task:DictPendulum-v0",
        normalize={"observations": True},
        total_timesteps=6_000,
        hyperparameters={
            "learning_rate": 1e-3,
            "batch_size": 64,
            "policy_kwargs": {"net_arch": [64, 64]},
        },
    )
    assert meta["compared_to_random"]["difference"]["interval"][0] > 500
