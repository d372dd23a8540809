"""A run that starts from a policy file starts from that very policy, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny
from sb3_contrib import ARS, RecurrentPPO
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import gallop
from gallop.commands.cli import main
from gallop.environments.make import make_env
from gallop.evaluation.episodes import evaluate
from gallop.policies import sb3_zip
from gallop.policies.sb3_zip import PolicyFileError
from gallop.run_folder.prepared import prepare
from gallop.runs.training import initial_learner


def returns_of(policy, task="Pendulum-v1"):
    return evaluate(policy, lambda: make_env(task, seed=None), [10_000, 10_001]).returns


def normalised(task, clip=10.0):
    environments = DummyVecEnv([lambda: make_env(task, seed=0)])
    return VecNormalize(environments, norm_reward=False, clip_obs=clip)


def initial_policy_of(experiment):
    with initial_learner(prepare(experiment)) as (_, learner):
        return learner.policy, learner


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_the_activation_function_comes_from_the_file(algo, tmp_path):
    own = {"sac": torch.nn.Tanh, "ppo": torch.nn.ReLU}[algo]
    kwargs = {"net_arch": [16], "activation_fn": own}
    model = {"sac": SAC, "ppo": PPO}[algo]("MlpPolicy", "Pendulum-v1", policy_kwargs=kwargs, seed=3)
    model.save(tmp_path / "a.zip")
    zip_file = str(tmp_path / "a.zip")
    policy, _ = initial_policy_of(tiny(algo, init_from=zip_file))
    expected = gallop.evaluate(zip_file, env="Pendulum-v1", seeds=[10_000, 10_001]).returns
    np.testing.assert_array_equal(returns_of(policy), expected)
    prepared = prepare(tiny(algo, init_from=zip_file))
    assert prepared.experiment.hyperparameters.policy_kwargs.activation_fn == own.__name__.lower()
    assert "activation function" in prepared.start_notes[0]


def test_another_activation_function_is_refused(tmp_path, capsys):
    SAC("MlpPolicy", "Pendulum-v1").save(tmp_path / "a.zip")
    run = ["run", "--algo", "sac", "--env", "Pendulum-v1", "-n", "1000", "--dry-run"]
    run += ["--init-from", str(tmp_path / "a.zip")]
    assert main([*run, "-params", "policy_kwargs.activation_fn:elu"]) == 2
    error = capsys.readouterr().err
    assert "policy_kwargs.activation_fn" in error and "have relu" in error


@pytest.mark.parametrize(("algorithm", "title"), [(TD3, "TD3"), (PPO, "PPO")])
def test_the_file_of_another_algorithm_is_named(algorithm, title, tmp_path, capsys):
    algorithm("MlpPolicy", "Pendulum-v1").save(tmp_path / "a.zip")
    run = ["run", "--algo", "sac", "--env", "Pendulum-v1", "-n", "1000", "--dry-run"]
    assert main([*run, "--init-from", str(tmp_path / "a.zip")]) == 2
    error = capsys.readouterr().err
    assert f"holds a policy of {title}, and this experiment trains SAC" in error


def test_a_missing_file_is_noticed_in_a_dry_run(tmp_path, capsys):
    run = ["run", "--algo", "sac", "--env", "Pendulum-v1", "-n", "1000", "--dry-run"]
    assert main([*run, "--init-from", str(tmp_path / "nothere.zip")]) == 2
    captured = capsys.readouterr()
    assert "nothere.zip: no such file" in captured.err and "timesteps" not in captured.out


@pytest.mark.parametrize("normalize", ["true", "false"])
def test_ppo_without_its_normaliser_is_refused(normalize, tmp_path, capsys):
    model = PPO("MlpPolicy", normalised("Pendulum-v1"), n_steps=64, batch_size=32)
    model.learn(64)
    model.save(tmp_path / "a.zip")
    run = ["run", "--algo", "ppo", "--env", "Pendulum-v1", "-n", "8192", "--no-preset", "--dry-run"]
    run += ["--init-from", str(tmp_path / "a.zip"), "--normalize.observations", normalize]
    assert main(run) == 2
    assert "neither a.normalizer.npz nor vecnormalize.pkl" in capsys.readouterr().err


def test_the_clipping_of_the_normaliser_is_kept(tmp_path):
    environments = normalised("Pendulum-v1", clip=0.5)
    model = PPO("MlpPolicy", environments, n_steps=64, batch_size=32,
                policy_kwargs={"net_arch": [16]})  # fmt: skip
    model.learn(640)
    model.save(tmp_path / "a.zip")
    environments.save(tmp_path / "vecnormalize.pkl")
    zip_file = str(tmp_path / "a.zip")
    normalize = {"observations": True, "rewards": False}
    experiment = tiny("ppo", init_from=zip_file, normalize=normalize)
    policy, learner = initial_policy_of(experiment)
    expected = gallop.evaluate(zip_file, env="Pendulum-v1", seeds=[10_000, 10_001]).returns
    np.testing.assert_array_equal(returns_of(policy), expected)
    learner.save_policy(tmp_path / "again.zip")
    assert sb3_zip.read_start(tmp_path / "again.zip").normalizer.clip == 0.5


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_off_policy_zips_tell_that_they_were_normalised(algorithm, tmp_path):
    """HalfCheetah's observations are float64, and normalised ones float32."""
    made = []
    for name, env in (("raw", "HalfCheetah-v5"), ("normalised", normalised("HalfCheetah-v5"))):
        model = algorithm("MlpPolicy", env, learning_starts=1_000, buffer_size=1_000)
        model.learn(20)
        model.save(tmp_path / f"{name}.zip")
        made.append(tmp_path / f"{name}.zip")
    assert len(gallop.evaluate(made[0], env="HalfCheetah-v5", n_episodes=1).returns) == 1
    with pytest.raises(PolicyFileError, match="was trained on normalised observations"):
        gallop.evaluate(made[1], env="HalfCheetah-v5", n_episodes=1)


def sb3s_return(model, task, seed):
    env = make_env(task, seed=None)
    observation, _ = env.reset(seed=seed)
    total, memory, ended = 0.0, None, False
    while not ended:
        action, memory = model.predict(observation, state=memory, deterministic=True)
        observation, reward, terminated, truncated, _ = env.step(action)
        total, ended = total + float(reward), terminated or truncated
    return total


@pytest.mark.parametrize("algorithm", [RecurrentPPO, ARS])
def test_trusted_zips_of_sb3_contrib_act_as_there(algorithm, tmp_path, capfd):
    """A recurrent policy keeps its memory through an episode, and no longer."""
    if algorithm is RecurrentPPO:
        model = RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", n_steps=64, batch_size=32,
                             policy_kwargs={"lstm_hidden_size": 8}, seed=1)  # fmt: skip
        model.learn(64)
    else:
        model = ARS("LinearPolicy", "Pendulum-v1", n_delta=1, seed=1)
        model.learn(400)
    model.save(tmp_path / "a.zip")
    seeds = [10_000, 10_001]
    expected = [sb3s_return(model, "Pendulum-v1", seed) for seed in seeds]
    found = gallop.evaluate(tmp_path / "a.zip", env="Pendulum-v1", seeds=seeds, trust=True)
    np.testing.assert_allclose(found.returns, expected, rtol=1e-5)
    film = ["watch", str(tmp_path / "a.zip"), "--env", "Pendulum-v1", "--episodes", "2", "--trust"]
    assert main([*film, "--seed", "10000", "--output", str(tmp_path / "a.mp4")]) == 0
    output = capfd.readouterr().out
    for value in expected:
        assert f"return {value:,.1f}" in output
