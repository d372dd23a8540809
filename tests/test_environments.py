"""Environments: the task's own defaults, errors, vectorised stepping, normalisation."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from gallop.environments.make import make_env
from gallop.environments.vectorised import rebuild, training_environments
from gallop.errors import ExperimentError
from gallop.policies.normalizer import Normalizer


@pytest.mark.parametrize(
    ("task", "frame_skip", "noise"), [("HalfCheetah-v5", 5, 0.1), ("Hopper-v5", 4, 0.005)]
)
def test_none_keeps_the_tasks_default(task, frame_skip, noise):
    env = make_env(task, seed=0)
    assert env.unwrapped.frame_skip == frame_skip
    assert env.unwrapped._reset_noise_scale == noise
    env.close()


def test_keywords_reach_the_task():
    env = make_env(
        "HalfCheetah-v5", seed=0, frame_skip=2, reset_noise_scale=0.3, ctrl_cost_weight=0.7
    )
    assert env.unwrapped.frame_skip == 2
    assert env.unwrapped._reset_noise_scale == 0.3
    assert env.unwrapped._ctrl_cost_weight == 0.7
    env.close()


def test_an_unknown_keyword_is_reported_with_the_tasks_keywords():
    with pytest.raises(ExperimentError) as caught:
        make_env("CartPole-v1", seed=0, frame_skip=2)
    message = str(caught.value)
    assert "CartPole-v1" in message and "'frame_skip'" in message and "sutton_barto" in message
    with pytest.raises(ExperimentError, match="'noise'; it has xml_file, frame_skip"):
        make_env("HalfCheetah-v5", seed=0, noise=1)
    with pytest.raises(ExperimentError, match="cannot be made"):
        make_env("HalfCheetah-v5", seed=0, xml_file="/no/such.xml")


def test_the_seed_determines_the_next_episodes_and_actions():
    def rollout(seed):
        env = make_env("HalfCheetah-v5", seed=seed)
        first, _ = env.reset()
        action = env.action_space.sample()
        env.close()
        return np.concatenate([first, action])

    np.testing.assert_array_equal(rollout(3), rollout(3))
    assert not np.array_equal(rollout(3), rollout(4))


def test_wrappers_are_applied_in_order_by_import_path():
    env = make_env(
        "HalfCheetah-v5",
        seed=0,
        wrappers=[
            {"gymnasium.wrappers:TimeAwareObservation": {}},
            {"gymnasium.wrappers.FrameStackObservation": {"stack_size": 2}},
        ],
    )
    assert env.observation_space.shape == (2, 18)
    env.close()
    for path in ("no.such:Thing", "gymnasium.wrappers:NoSuch", "gymnasium:__version__"):
        with pytest.raises(ExperimentError, match=r"cannot be imported|is not a wrapper"):
            make_env("HalfCheetah-v5", seed=0, wrappers=[{path: {}}])


def test_an_episode_is_cut_when_the_simulation_diverges(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    env = make_env("HalfCheetah-v5", seed=0)
    *_, truncated, info = env.step(np.zeros(6))
    assert not truncated and "unstable_physics" not in info
    env.unwrapped.data.qvel[:] = 1e12
    *_, truncated, info = env.step(np.zeros(6))
    assert truncated and info["unstable_physics"]
    env.reset()
    assert not env.step(np.zeros(6))[3], "a new episode starts afresh"
    env.close()
    assert not list(tmp_path.iterdir()), "MuJoCo writes MUJOCO_LOG.TXT where it is not stopped"


@pytest.mark.parametrize("vec_env", ["dummy", "subproc"])
def test_rebuilding_keeps_nothing_of_the_previous_segment(vec_env):
    environments = training_environments(tiny("ppo", n_envs=2, vec_env=vec_env))
    action = np.zeros((2, 1), dtype=np.float32)

    def rollout():
        environments.seed(7)
        observations = [environments.reset()]
        observations += [environments.step(action)[0] for _ in range(60)]
        return np.stack(observations)

    first = rollout()
    without = rollout()[1:50]
    rebuild(environments)
    np.testing.assert_array_equal(rollout(), first)
    np.testing.assert_array_equal(without, first[1:50])
    assert not np.array_equal(first[:, 0], first[:, 1]), "each environment has its own seed"
    environments.close()


@pytest.mark.parametrize("task", ["HalfCheetah-v5", "gallop_dict_task:DictPendulum-v0"])
def test_the_normaliser_equals_sb3s(task, tmp_path):
    vec = VecNormalize(DummyVecEnv([lambda: make_env(task, seed=None)]), clip_obs=1.5)
    vec.seed(0)
    vec.reset()
    for _ in range(30):
        vec.step(np.array([vec.action_space.sample()]))
    statistics = vec.obs_rms
    parts = {"": statistics} if isinstance(statistics, RunningMeanStd) else statistics
    normalizer = Normalizer(
        {key: part.mean for key, part in parts.items()},
        {key: part.var for key, part in parts.items()},
        31.0,
        clip=1.5,
    )
    normalizer.save(tmp_path / "a.npz")
    raw = vec.get_original_obs()
    ours, theirs = Normalizer.load(tmp_path / "a.npz")(raw), vec.normalize_obs(raw)
    for key in theirs if isinstance(theirs, dict) else [()]:
        np.testing.assert_array_equal(ours[key], theirs[key].astype(np.float32))
        assert np.abs(ours[key]).max() <= 1.5
    vec.close()


def test_another_file_is_not_a_normaliser(tmp_path):
    np.savez(tmp_path / "a.npz", mean=np.zeros(3))
    with pytest.raises(ValueError, match="not a normaliser file"):
        Normalizer.load(tmp_path / "a.npz")
