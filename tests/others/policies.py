"""Policies of other libraries: trained for real, exported as their users do, scored by Gallop.

Run by hand where Gallop is installed with its extra `onnx`. It installs the other libraries into
environments of their own, and takes about half an hour on two cores:

    python tests/others/policies.py policies.csv
    python tests/others/policies.py policies.csv --folder DIR --only skrl rl_games

The trainings are a few hundred timesteps long: numbers are compared here, not learning. For each
file, the CSV has the largest difference to the library's own deterministic actions on 500
observations, half of them far outside of what was seen, and the mean return of ten episodes.
Library actions outside of the task's bounds are clipped, as Gallop clips them.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TASKS = ("Pendulum-v1", "Hopper-v5")  # actions of ±2 and ±1
SEEDS = range(10000, 10010)  # Gallop's evaluation seeds
TORCH = "torch==2.13.0"
PACKAGES = {  # one environment each
    "torch": [TORCH, "rsl-rl-lib==5.5.1", "rl-games==1.6.5", "skrl==2.1.1", "gymnasium[mujoco]",
              "onnx", "onnxruntime", "onnxscript"],
    "jax": [TORCH, "sbx-rl==0.28.0", "jax2onnx", "gymnasium[mujoco]", "onnx", "onnxruntime"],
    "more": [TORCH, "tianshou==2.0.1", "ray[rllib]", "gymnasium[mujoco]", "onnx", "onnxscript"],
}  # fmt: skip
COLUMNS = ("library", "version", "policy", "task", "file", "options", "largest_action_difference",
           "return_by_library", "return_by_gallop", "message")  # fmt: skip
UNIT = {"gymnasium.wrappers:RescaleAction": {"min_action": -1.0, "max_action": 1.0}}


class Trained(NamedTuple):
    """A trained policy."""

    library: str
    version: str
    name: str
    task: str
    act: Callable[[np.ndarray], np.ndarray]
    """Observations [n, ...] -> the actions [n, ...] that the library gives to the task."""
    files: dict[str, list[str]]
    """Name of a file or folder -> options of `gallop evaluate` for it."""
    reset: Callable[[int], None] = lambda n: None
    """Erases the memory, before n episodes."""


def version_of(package: str) -> str:
    return importlib.metadata.version(package)


# --- CleanRL: its modules by their published names, with the shortest possible trainings ---------


def cleanrl(folder: Path) -> Iterator[Trained]:
    import torch

    for task in TASKS:
        for name, train in (("ppo", cleanrl_ppo), ("sac", cleanrl_sac), ("td3", cleanrl_sac)):
            torch.manual_seed(1)
            yield train(folder, task, name)


def cleanrl_ppo(folder: Path, task: str, name: str) -> Trained:
    import gymnasium as gym
    import torch
    from torch import nn

    env: Any = gym.wrappers.NormalizeObservation(gym.wrappers.ClipAction(gym.make(task)))
    n, m = env.observation_space.shape[0], env.action_space.shape[0]

    class Agent(nn.Module):
        def __init__(self) -> None:
            super().__init__()

            def layers(n_outputs: int) -> nn.Module:
                return nn.Sequential(nn.Linear(n, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                                     nn.Linear(64, n_outputs))  # fmt: skip

            self.critic, self.actor_mean = layers(1), layers(m)
            self.actor_logstd = nn.Parameter(torch.zeros(1, m))

    agent = Agent()
    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
    observation = env.reset(seed=1)[0]
    for _ in range(4):
        rows = []
        for _ in range(256):
            x = torch.as_tensor(np.clip(observation, -10, 10), dtype=torch.float32)
            with torch.no_grad():
                action = torch.normal(agent.actor_mean(x), agent.actor_logstd[0].exp())
            observation, reward, terminated, truncated, _ = env.step(action.numpy())
            rows.append((x, action, torch.tensor(float(reward))))
            if terminated or truncated:
                observation = env.reset()[0]
        x, action, reward = (torch.stack(part) for part in zip(*rows, strict=True))
        for _ in range(10):
            found = torch.distributions.Normal(agent.actor_mean(x), agent.actor_logstd.exp())
            values = agent.critic(x)[:, 0]
            advantage = (reward - reward.mean() - values.detach()) / reward.std()
            loss = (values - reward + reward.mean()).pow(2).mean()
            loss -= (found.log_prob(action).sum(1) * advantage).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    place = made(folder / f"cleanrl_{name}_{task}")
    torch.save(agent.state_dict(), place / "ppo_continuous_action.cleanrl_model")

    statistics = env.obs_rms
    mean, var = (
        torch.tensor(each, dtype=torch.float32) for each in (statistics.mean, statistics.var)
    )

    class Deployed(nn.Module):  # what a user must write to have one file that plays
        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            scaled = (obs - mean) / torch.sqrt(var + env.epsilon)
            return agent.actor_mean(torch.clamp(scaled, -10, 10))

        def __init__(self) -> None:
            super().__init__()
            self.actor_mean = agent.actor_mean

    to_onnx(Deployed(), place / "policy.onnx", n)
    to_onnx(agent.actor_mean, place / "network_only.onnx", n)

    def act(observations: np.ndarray) -> np.ndarray:
        scaled = (observations - statistics.mean) / np.sqrt(statistics.var + env.epsilon)
        x = torch.as_tensor(np.clip(scaled, -10, 10), dtype=torch.float32)
        return agent.actor_mean(x).detach().numpy()

    none = ["--normalizer", "none"]
    files: dict[str, list[str]] = {"policy.onnx": [], "network_only.onnx": []}
    files["ppo_continuous_action.cleanrl_model"] = none
    return Trained("CleanRL", "016ca33", name, task, act, files)


def cleanrl_sac(folder: Path, task: str, name: str) -> Trained:
    """SAC or TD3."""
    import gymnasium as gym
    import torch
    from torch import nn
    from torch.nn.functional import mse_loss, relu

    env: Any = gym.make(task)
    n, m = env.observation_space.shape[0], env.action_space.shape[0]
    last = "fc_mean" if name == "sac" else "fc_mu"

    class Actor(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(n, 256), nn.Linear(256, 256)
            setattr(self, last, nn.Linear(256, m))
            if name == "sac":
                self.fc_logstd = nn.Linear(256, m)
            low, high = torch.tensor(env.action_space.low), torch.tensor(env.action_space.high)
            self.register_buffer("action_scale", (high - low) / 2.0)
            self.register_buffer("action_bias", (high + low) / 2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = relu(self.fc2(relu(self.fc1(x))))
            return torch.tanh(getattr(self, last)(x)) * self.action_scale + self.action_bias

    class QNetwork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(n + m, 256), nn.Linear(256, 256)
            self.fc3 = nn.Linear(256, 1)

        def forward(self, x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
            return self.fc3(relu(self.fc2(relu(self.fc1(torch.cat([x, a], 1))))))

    actor, qf1, qf2 = Actor(), QNetwork(), QNetwork()
    optimizers = [torch.optim.Adam(each.parameters(), lr=1e-3) for each in (actor, qf1)]
    rows, observation = [], env.reset(seed=1)[0]
    env.action_space.seed(1)
    for _ in range(500):
        action = env.action_space.sample()
        after, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, [reward], after, [float(terminated)]))
        observation = env.reset()[0] if terminated or truncated else after
    x, a, r, y, ended = (
        torch.as_tensor(np.array(part), dtype=torch.float32) for part in zip(*rows, strict=True)
    )
    for _ in range(200):
        with torch.no_grad():
            target = r + 0.99 * (1 - ended) * qf1(y, actor(y))
        losses = (lambda: -qf1(x, actor(x)).mean(), lambda t=target: mse_loss(qf1(x, a), t))
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    place = made(folder / f"cleanrl_{name}_{task}")
    file = f"{name}_continuous_action.cleanrl_model"
    state = (actor.state_dict(), qf1.state_dict(), qf2.state_dict())
    torch.save(state if name == "td3" else actor.state_dict(), place / file)  # SAC: by the user
    to_onnx(actor, place / "policy.onnx", n)

    def act(observations: np.ndarray) -> np.ndarray:
        return actor(torch.as_tensor(observations, dtype=torch.float32)).detach().numpy()

    return Trained("CleanRL", "004f8a0", name, task, act, {file: [], "policy.onnx": []})


def to_onnx(module: Any, path: Path, n_observations: int, **names: list[str]) -> None:
    """PyTorch's exporter as most users call it, with its defaults."""
    import torch

    names = {"input_names": ["obs"], "output_names": ["actions"]} | names
    torch.onnx.export(module.eval(), (torch.zeros(1, n_observations),), str(path), **names)


# --- rsl_rl --------------------------------------------------------------------------------------


def rsl_rl(folder: Path) -> Iterator[Trained]:
    import torch
    from rsl_rl.runners import OnPolicyRunner

    gaussian = {"class_name": "GaussianDistribution", "init_std": 1.0}
    kinds: dict[str, dict[str, Any]] = {
        "mlp": {"class_name": "MLPModel", "hidden_dims": [64, 64], "distribution_cfg": gaussian},
        "mlp-beta": {"class_name": "MLPModel", "hidden_dims": [64, 64],
                     "distribution_cfg": {"class_name": "BetaDistribution"}},
        "mlp-own-std": {
            "class_name": "MLPModel", "hidden_dims": [64, 64],
            "distribution_cfg": {"class_name": "HeteroscedasticGaussianDistribution"}},
        "gru": {"class_name": "RNNModel", "hidden_dims": [32], "distribution_cfg": gaussian,
                "rnn_type": "gru", "rnn_hidden_dim": 32},
        "lstm": {"class_name": "RNNModel", "hidden_dims": [32], "distribution_cfg": gaussian,
                 "rnn_type": "lstm", "rnn_hidden_dim": 32},
    }  # fmt: skip
    for task in TASKS:
        for name, model in kinds.items():
            torch.manual_seed(1)
            recurrent = {k: v for k, v in model.items() if k.startswith("rnn") or "dims" in k}
            actor = {**model, "activation": "elu", "obs_normalization": True}
            critic = {"class_name": model["class_name"], "activation": "elu",
                      "obs_normalization": True, **recurrent}  # fmt: skip
            algorithm = {"class_name": "PPO", "num_mini_batches": 2, "rnd_cfg": None}
            config = {
                "num_steps_per_env": 32, "save_interval": 100, "actor": actor, "critic": critic,
                "obs_groups": {"actor": ["policy"], "critic": ["policy"]}, "algorithm": algorithm,
                "logger": "tensorboard",
            }  # fmt: skip
            place = made(folder / f"rsl_rl_{name}_{task}")
            runner = OnPolicyRunner(rsl_rl_environments(task), config, log_dir=str(place / "log"))
            runner.learn(4)
            runner.save(str(place / "model.pt"))
            runner.export_policy_to_onnx(str(place))
            yield rsl_rl_policy(runner, name, task)


def rsl_rl_environments(task: str, n: int = 4) -> Any:
    """What its users write to train on a Gymnasium task."""
    import gymnasium as gym
    import torch
    from rsl_rl.env import VecEnv
    from tensordict import TensorDict

    class Environments(VecEnv):
        def __init__(self) -> None:
            self.envs = gym.make_vec(task, n, vectorization_mode="sync")
            self.num_envs, self.device, self.cfg = n, "cpu", {}
            self.num_actions = self.envs.single_action_space.shape[0]
            self.max_episode_length = self.envs.spec.max_episode_steps
            self.episode_length_buf = torch.zeros(n, dtype=torch.long)
            self.observations = self.envs.reset(seed=1)[0]

        def get_observations(self) -> TensorDict:
            x = torch.as_tensor(self.observations, dtype=torch.float32)
            return TensorDict({"policy": x}, batch_size=[n])

        def step(self, actions: torch.Tensor) -> tuple[Any, ...]:
            space = self.envs.single_action_space
            clipped = actions.numpy().clip(space.low, space.high)
            self.observations, rewards, terminated, truncated, _ = self.envs.step(clipped)
            ended = torch.as_tensor(terminated | truncated)
            extras = {"time_outs": torch.as_tensor(truncated)}
            return (self.get_observations(), torch.as_tensor(rewards, dtype=torch.float32), ended,
                    extras)  # fmt: skip

    return Environments()


def rsl_rl_policy(runner: Any, name: str, task: str) -> Trained:
    import torch
    from tensordict import TensorDict

    policy = runner.get_inference_policy(device="cpu")

    def act(observations: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(observations, dtype=torch.float32)
        with torch.inference_mode():
            return policy(TensorDict({"policy": x}, batch_size=[len(x)])).numpy()

    def reset(n: int) -> None:
        if name in ("gru", "lstm"):
            policy.rnn.hidden_state = None

    files = {"model.pt": ["--activation", "elu"], "policy.onnx": []}
    return Trained("rsl_rl", version_of("rsl-rl-lib"), name, task, act, files, reset)


# --- rl_games ------------------------------------------------------------------------------------


def rl_games(folder: Path) -> Iterator[Trained]:
    import os

    import numpy.core.multiarray  # noqa: F401  # rl_games 1.6.5 names it when it reads a file
    from rl_games.common import env_configurations, vecenv
    from rl_games.torch_runner import Runner

    vecenv.register("SYNC", lambda name, n, **_: rl_games_environments(name, n))
    for task in TASKS:
        env_configurations.register(task, {"vecenv_type": "SYNC", "env_creator": lambda **_: None})
        for name in ("ppo", "ppo-separate", "ppo-unclipped", "ppo-lstm"):
            place = made(folder / f"rl_games_{name}_{task}")
            os.chdir(place)
            config = rl_games_config(name, task)
            runner = Runner()
            runner.load(config)
            runner.run({"train": True, "play": False})
            shutil.copy(place / "runs" / "a" / "nn" / "a.pth", place / "a.pth")
            yield rl_games_policy(runner, place, name, task)


def rl_games_config(name: str, task: str) -> dict[str, Any]:
    space = {
        "fixed_sigma": True,
        "mu_activation": "None",
        "mu_init": {"name": "default"},
        "sigma_activation": "None",
        "sigma_init": {"name": "const_initializer", "val": 0},
    }
    network: dict[str, Any] = {
        "name": "actor_critic", "separate": name == "ppo-separate", "space": {"continuous": space},
        "mlp": {"units": [32, 32], "activation": "elu", "initializer": {"name": "default"}},
    }  # fmt: skip
    if name == "ppo-lstm":
        network["rnn"] = {"name": "lstm", "units": 32, "layers": 1, "before_mlp": False}
    config = {
        "name": "a", "full_experiment_name": "a", "env_name": task, "num_actors": 4,
        "horizon_length": 256, "minibatch_size": 512, "mini_epochs": 2, "max_epochs": 3,
        "save_best_after": 0, "save_frequency": 0, "score_to_win": 1e9, "ppo": True,
        "normalize_input": True, "normalize_value": True, "normalize_advantage": True,
        "reward_shaper": {"scale_value": 0.1}, "gamma": 0.99, "tau": 0.95, "learning_rate": 1e-3,
        "lr_schedule": "adaptive", "kl_threshold": 0.008, "grad_norm": 1.0, "truncate_grads": True,
        "e_clip": 0.2, "clip_value": False, "critic_coef": 2, "entropy_coef": 0.0,
        "bounds_loss_coef": 0.0, "seq_length": 4, "device": "cpu", "device_name": "cpu",
        "clip_actions": name != "ppo-unclipped",
        "torch_compile": name == "ppo",  # its default, which takes minutes
    }  # fmt: skip
    return {"params": {
        "seed": 5, "algo": {"name": "a2c_continuous"}, "model": {"name": "continuous_a2c_logstd"},
        "network": network, "config": config,
    }}  # fmt: skip


def rl_games_environments(task: str, n: int) -> Any:
    import gymnasium as gym
    from rl_games.common.ivecenv import IVecEnv

    class Environments(IVecEnv):
        def __init__(self) -> None:
            self.envs = gym.make_vec(task, n, vectorization_mode="sync")

        def step(self, actions: np.ndarray) -> tuple[Any, ...]:
            space = self.envs.single_action_space
            x, rewards, terminated, truncated, _ = self.envs.step(
                np.clip(actions, space.low, space.high)
            )
            return x.astype(np.float32), rewards, terminated | truncated, {"time_outs": truncated}

        def reset(self) -> np.ndarray:
            return self.envs.reset(seed=1)[0].astype(np.float32)

        def get_env_info(self) -> dict[str, Any]:
            return {"action_space": self.envs.single_action_space,
                    "observation_space": self.envs.single_observation_space}  # fmt: skip

    return Environments()


def rl_games_policy(runner: Any, place: Path, name: str, task: str) -> Trained:
    import torch

    runner.params["config"]["env_info"] = rl_games_environments(task, 1).get_env_info()
    player = runner.create_player()
    player.restore(str(place / "a.pth"))
    player.has_batch_dimension = True
    recurrent = name == "ppo-lstm"
    n = player.obs_shape[0]

    class Wrapped(torch.nn.Module):  # as in its notebook about ONNX
        def __init__(self) -> None:
            super().__init__()
            self.model = player.model

        def forward(self, obs: Any, h: Any = None, c: Any = None) -> Any:
            states = (h, c) if recurrent else None
            found = self.model.a2c_network({"obs": self.model.norm_obs(obs), "rnn_states": states})
            mu, log_std, value, states = found
            return (mu, log_std, value, *states) if recurrent else (mu, log_std, value)

    memory = (torch.zeros(1, 1, 32), torch.zeros(1, 1, 32)) if recurrent else ()
    more_in, more_out = (["h_in", "c_in"], ["h_out", "c_out"]) if recurrent else ([], [])
    wrapped = Wrapped().eval()  # else the export leaves the normaliser in training mode
    with torch.no_grad():
        inputs = (torch.zeros(1, n), *memory)
        traced = torch.jit.trace(wrapped, inputs, check_trace=False)
        torch.onnx.export(
            traced, inputs, str(place / "policy.onnx"), dynamo=False,
            input_names=["obs", *more_in], output_names=["mu", "log_std", "value", *more_out],
        )  # fmt: skip

    def act(observations: np.ndarray) -> np.ndarray:
        x = torch.as_tensor(observations, dtype=torch.float32)
        return player.get_action(x, is_deterministic=True).numpy()

    def reset(n: int) -> None:
        if recurrent:
            player.states = [torch.zeros(1, n, 32), torch.zeros(1, n, 32)]

    scaled = [] if name == "ppo-unclipped" else ["--wrappers", json.dumps([UNIT])]
    files = {"a.pth": ["--activation", "elu"], "policy.onnx": []}
    if scaled:
        shutil.copy(place / "policy.onnx", place / "policy_scaled.onnx")
        files["policy_scaled.onnx"] = scaled
    return Trained("rl_games", version_of("rl-games"), name, task, act, files, reset)


# --- skrl ----------------------------------------------------------------------------------------


def skrl(folder: Path) -> Iterator[Trained]:
    import gymnasium as gym
    from skrl.envs.wrappers.torch import wrap_env
    from skrl.utils.runner.torch import Runner

    for task in TASKS:
        for name in ("ppo", "ppo-shared", "ppo-tanh", "sac", "td3"):
            place = made(folder / f"skrl_{name}_{task}")
            # MuJoCo's float64 stops skrl: "mat1 and mat2 must have the same dtype"
            single = [lambda env: gym.wrappers.DtypeObservation(env, np.float32)]
            env = wrap_env(gym.make_vec(task, 4, vectorization_mode="sync", wrappers=single))
            runner = Runner(env, skrl_config(name, str(place)))
            runner.run("train")
            runner.agent.save(str(place / "agent.pt"))
            yield skrl_policy(runner.agent, place, name, task)


def skrl_config(name: str, folder: str) -> dict[str, Any]:
    ppo = name.startswith("ppo")
    hidden = {"name": "net", "input": "OBSERVATIONS", "layers": [32, 32], "activations": "elu"}
    both = {**hidden, "input": "concatenate([OBSERVATIONS, ACTIONS])"}
    policy = {
        "class": "GaussianMixin" if name != "td3" else "DeterministicMixin",
        "network": [hidden],
        "output": "ACTIONS" if name in ("ppo", "ppo-shared") else "2.0 * tanh(ACTIONS)",
    }
    value = {"class": "DeterministicMixin", "network": [hidden if ppo else both], "output": "ONE"}
    critics = ("critic_1", "critic_2", "target_critic_1", "target_critic_2")
    targets = {"target_policy": dict(policy)} if name == "td3" else {}
    models = {"policy": policy} | (
        {"value": value} if ppo else {**targets, **{name: dict(value) for name in critics}}
    )
    kind = {
        "class": "PPO" if ppo else name.upper(),
        "observation_preprocessor": "RunningStandardScaler",
        "observation_preprocessor_kwargs": None,
        "experiment": {"directory": folder, "write_interval": 0, "checkpoint_interval": 0},
    }
    if ppo:
        kind |= {"rollouts": 64, "learning_epochs": 4, "mini_batches": 2}
    elif name == "td3":
        kind |= {"learning_starts": 100, "batch_size": 64,
                 "exploration_noise": "GaussianNoise",
                 "exploration_noise_kwargs": {"mean": 0, "std": 0.1},
                 "smooth_regularization_noise": "GaussianNoise",
                 "smooth_regularization_noise_kwargs": {"mean": 0, "std": 0.2}}  # fmt: skip
    else:
        kind |= {"learning_starts": 100, "batch_size": 64}
    return {
        "seed": 1,
        "models": {"separate": name != "ppo-shared", **models},
        "memory": {"class": "RandomMemory", "memory_size": -1 if ppo else 1000},
        "agent": kind,
        "trainer": {"class": "SequentialTrainer", "timesteps": 300, "headless": True},
    }


def skrl_policy(agent: Any, place: Path, name: str, task: str) -> Trained:
    import torch

    scaler = agent._observation_preprocessor
    agent.policy.eval()
    n = agent.observation_space.shape[0]

    def mean(obs: torch.Tensor) -> torch.Tensor:
        return agent.policy.compute({"observations": scaler(obs), "states": None}, "policy")[0]

    class Deployed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy, self.scaler = agent.policy, scaler

        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            return mean(obs)

    to_onnx(Deployed(), place / "policy.onnx", n)

    def act(observations: np.ndarray) -> np.ndarray:
        return mean(torch.as_tensor(observations, dtype=torch.float32)).detach().numpy()

    files = {"agent.pt": ["--activation", "elu"], "policy.onnx": []}
    return Trained("skrl", version_of("skrl"), name, task, act, files)


# --- SBX -----------------------------------------------------------------------------------------


def sbx(folder: Path) -> Iterator[Trained]:
    import jax
    import numpy as np
    import sbx as library
    from jax2onnx import to_onnx as jax_to_onnx

    kinds = {"ppo": {"n_steps": 128, "batch_size": 64}, "sac": {"learning_starts": 50},
             "td3": {"learning_starts": 50}}  # fmt: skip
    for task in TASKS:
        for name, settings in kinds.items():
            model: Any = getattr(library, name.upper())("MlpPolicy", task, seed=1, **settings)
            model.learn(300)
            place = made(folder / f"sbx_{name}_{task}")
            model.save(place / "model.zip")
            state, space = model.policy.actor_state, model.action_space

            def mean(obs: jax.Array, state: Any = state) -> jax.Array:
                found = state.apply_fn(state.params, obs)
                return found.mode() if hasattr(found, "mode") else found

            def scaled(obs: jax.Array, mean: Any = mean, space: Any = space) -> jax.Array:
                return space.low + 0.5 * (mean(obs) + 1.0) * (space.high - space.low)

            n = model.observation_space.shape[0]
            squashed = model.policy.squash_output
            # A batch of any size fails inside TensorFlow Probability.
            jax_to_onnx(mean, [(1, n)], return_mode="file", output_path=place / "policy.onnx")
            files: dict[str, list[str]] = {"model.zip": [], "policy.onnx": []}
            if squashed:
                jax_to_onnx(scaled, [(1, n)], return_mode="file",
                            output_path=place / "policy_scaled.onnx")  # fmt: skip
                files["policy_scaled.onnx"] = []

            def act(observations: np.ndarray, model: Any = model) -> np.ndarray:
                return model.predict(observations.astype(np.float32), deterministic=True)[0]

            yield Trained("SBX", version_of("sbx-rl"), name, task, act, files)


# --- tianshou, RLlib -----------------------------------------------------------------------------


def tianshou(folder: Path) -> Iterator[Trained]:
    import gymnasium as gym
    import torch
    from tianshou.algorithm.modelfree.sac import SAC, SACPolicy
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Collector, VectorReplayBuffer
    from tianshou.env import DummyVectorEnv
    from tianshou.trainer import OffPolicyTrainerParams
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic

    for task in TASKS:
        torch.manual_seed(1)
        env: Any = gym.make(task)
        n, m = env.observation_space.shape, env.action_space.shape
        net = Net(state_shape=n, hidden_sizes=[32, 32])
        actor = ContinuousActorProbabilistic(
            preprocess_net=net, action_shape=m, unbounded=True, conditioned_sigma=True
        )
        both = Net(state_shape=n, action_shape=m, hidden_sizes=[32, 32], concat=True)
        policy = SACPolicy(actor=actor, action_space=env.action_space)
        factory = AdamOptimizerFactory(lr=1e-3)
        algorithm = SAC(policy=policy, policy_optim=factory, critic_optim=factory,
                        critic=ContinuousCritic(preprocess_net=both))  # fmt: skip
        envs = DummyVectorEnv([lambda task=task: gym.make(task) for _ in range(2)])
        collector = Collector(algorithm, envs, VectorReplayBuffer(1000, 2))
        collector.reset()
        collector.collect(n_step=200, random=True)
        algorithm.run_training(OffPolicyTrainerParams(
            training_collector=collector, test_collector=None, max_epochs=1, epoch_num_steps=200,
            collection_step_num_env_steps=20, batch_size=32,
            update_step_num_gradient_steps_per_sample=1.0,
        ))  # fmt: skip
        place = made(folder / f"tianshou_sac_{task}")
        torch.save(algorithm.state_dict(), place / "policy.pth")
        torch.save(algorithm, place / "algorithm.pth")
        policy.eval()
        low, high = (
            torch.as_tensor(each) for each in (env.action_space.low, env.action_space.high)
        )

        class Deployed(torch.nn.Module):
            def __init__(self, actor: Any = actor, low: Any = low, high: Any = high) -> None:
                super().__init__()
                self.actor, self.low, self.high = actor, low, high

            def forward(self, obs: torch.Tensor) -> torch.Tensor:
                unit = torch.tanh(self.actor(obs)[0][0])
                return self.low + 0.5 * (unit + 1) * (self.high - self.low)

        to_onnx(Deployed(), place / "policy.onnx", n[0])

        def act(observations: np.ndarray, policy: Any = policy) -> np.ndarray:
            return np.stack([policy.compute_action(each) for each in observations.astype("f4")])

        files: dict[str, list[str]] = {"policy.pth": [], "algorithm.pth": [], "policy.onnx": []}
        yield Trained("tianshou", version_of("tianshou"), "sac", task, act, files)


def rllib(folder: Path) -> Iterator[Trained]:
    import gymnasium as gym
    import torch
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.utils.spaces.space_utils import unsquash_action

    for task in TASKS:
        config = PPOConfig().environment(task).env_runners(num_env_runners=0).training(
            train_batch_size_per_learner=256, minibatch_size=64, num_epochs=2
        ).debugging(seed=1)  # fmt: skip
        algorithm = config.build_algo()
        algorithm.train()
        place = made(folder / f"rllib_ppo_{task}")
        algorithm.save_to_path(str(place / "checkpoint"))
        module, space = algorithm.get_module(), gym.make(task).action_space
        low, high = (torch.as_tensor(each) for each in (space.low, space.high))

        class Deployed(torch.nn.Module):
            def __init__(self, module: Any = module, low: Any = low, high: Any = high) -> None:
                super().__init__()
                self.module, self.low, self.high = module, low, high

            def forward(self, obs: torch.Tensor) -> torch.Tensor:
                found = self.module._forward_inference({"obs": obs})["action_dist_inputs"]
                unit = torch.clamp(found[:, : len(self.low)], -1, 1)  # config: normalize_actions
                return self.low + 0.5 * (unit + 1) * (self.high - self.low)

        deployed = Deployed()
        to_onnx(deployed, place / "policy.onnx", gym.make(task).observation_space.shape[0])

        def act(observations: np.ndarray, module: Any = module, space: Any = space) -> np.ndarray:
            batch = {"obs": torch.as_tensor(observations, dtype=torch.float32)}
            found = module.forward_inference(batch)["action_dist_inputs"]
            mean = module.get_inference_action_dist_cls().from_logits(found).to_deterministic()
            return np.stack([unsquash_action(row, space) for row in mean.sample().numpy()])

        inside = "checkpoint/learner_group/learner/rl_module/default_policy/module_state.pkl"
        files: dict[str, list[str]] = {"checkpoint": [], inside: [], "policy.onnx": []}
        yield Trained("RLlib", version_of("ray"), "ppo", task, act, files)


# --- observations and returns, where the library is installed ------------------------------------


LIBRARIES: dict[str, tuple[str, Callable[[Path], Iterator[Trained]]]] = {
    "cleanrl": ("torch", cleanrl), "rsl_rl": ("torch", rsl_rl), "rl_games": ("torch", rl_games),
    "skrl": ("torch", skrl), "sbx": ("jax", sbx), "tianshou": ("more", tianshou),
    "rllib": ("more", rllib),
}  # fmt: skip


def train(library: str, folder: Path) -> None:
    """Train and record: each policy in a folder, with a file that says what it does."""
    for trained in LIBRARIES[library][1](folder):
        observations = gathered(trained.task)
        trained.reset(observations.shape[1])
        actions = np.stack([np.asarray(trained.act(each)) for each in observations])
        returns = played(trained)
        place = folder / f"{library}_{trained.name}_{trained.task}"
        np.savez(place / "reference.npz", observations=observations, actions=actions,
                 returns=returns)  # fmt: skip
        told = {key: getattr(trained, key) for key in ("library", "version", "name", "task",
                                                       "files")}  # fmt: skip
        (place / "about.json").write_text(json.dumps(told, indent=1))


def gathered(task: str, n_timesteps: int = 50, n: int = 10) -> np.ndarray:
    """Observations [timestep, episode, ...] of random actions; the second half times 20."""
    import gymnasium as gym

    rows = []
    for seed in range(n):
        env = gym.make(task)
        env.action_space.seed(seed)
        row = [env.reset(seed=seed)[0]]
        while len(row) < n_timesteps:
            observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
            row.append(env.reset()[0] if terminated or truncated else observation)
        rows.append(np.stack(row))
    found = np.stack(rows, axis=1).astype(np.float32)
    found[n_timesteps // 2 :] *= 20
    return found


def played(trained: Trained) -> np.ndarray:
    import gymnasium as gym

    returns = []
    for seed in SEEDS:
        env = gym.make(trained.task)
        trained.reset(1)
        observation, total, ended = env.reset(seed=seed)[0], 0.0, False
        while not ended:
            action = np.asarray(trained.act(observation[None]))[0]
            action = np.clip(action, env.action_space.low, env.action_space.high)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, ended = total + float(reward), terminated or truncated
        returns.append(total)
    return np.array(returns)


def made(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# --- by Gallop -----------------------------------------------------------------------------------


def scored(place: Path) -> Iterator[dict[str, Any]]:
    """The rows of the CSV for a policy."""
    about = json.loads((place / "about.json").read_text())
    reference = np.load(place / "reference.npz")
    for file, options in about["files"].items():
        row = {key: about[key] for key in ("library", "version", "task")}
        row |= {"policy": about["name"], "file": file, "options": " ".join(options)}
        row["return_by_library"] = f"{reference['returns'].mean():.3f}"
        returns = place / "returns.npz"
        command = [sys.executable, "-m", "gallop", "evaluate", str(place / file), "--env",
                   about["task"], *options, "--output", str(returns)]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            row["message"] = done.stderr.strip().replace(f"{place}/", "")
        else:
            difference = largest_difference(place / file, about["task"], options, reference)
            row["largest_action_difference"] = f"{difference:.2e}"
            with np.load(returns) as found:
                row["return_by_gallop"] = f"{found[found.files[0]].mean():.3f}"
        yield row


def largest_difference(path: Path, task: str, options: list[str], reference: Any) -> float:
    """Largest difference between Gallop's actions and the library's, clipped to the bounds."""
    from gallop.environments.make import make_env
    from gallop.policies.policy import begin_episodes
    from gallop.policies.sb3_zip import Options, normalizer_option
    from gallop.run_folder.find_policy import find_policy

    given = dict(zip(options[::2], options[1::2], strict=True))
    chosen = Options(
        normalizer_option(given.get("--normalizer")), activation=given.get("--activation")
    )
    space: Any = make_env(task, seed=None).action_space
    named = find_policy(path, env=task)
    if "--wrappers" in given:
        wrapped = named.task.__class__(task, {}, tuple(json.loads(given["--wrappers"])))
        named = named._replace(task=wrapped)
    policy = named.read(chosen)
    begin_episodes(policy)
    ours = np.stack([policy.act(each) for each in reference["observations"]])
    if "--wrappers" in given:
        ours = space.low + 0.5 * (ours + 1) * (space.high - space.low)
    theirs = np.clip(reference["actions"], space.low, space.high)
    return float(np.abs(ours - theirs.reshape(ours.shape)).max())


def installed(environment: str, folder: Path) -> Path:
    """Python of an environment that has the libraries, made if it is not there."""
    python = folder / environment / "bin" / "python"
    if not python.exists():
        venv.create(folder / environment, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-q", *PACKAGES[environment]]
        subprocess.run(install, check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="CSV to write")
    parser.add_argument("--folder", type=Path, help="for environments and policies, kept if given")
    parser.add_argument("--only", nargs="+", choices=LIBRARIES, default=list(LIBRARIES))
    parser.add_argument("--trained", action="store_true", help="policies are there: only score")
    parser.add_argument("--train", help=argparse.SUPPRESS)  # inside a library's environment
    arguments = parser.parse_args()
    if arguments.train:
        train(arguments.train, arguments.folder.resolve())
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        rows = []
        for library in arguments.only:
            if not arguments.trained:
                python = installed(LIBRARIES[library][0], folder)
                command = [str(python), str(Path(__file__).resolve()), "none", "--train", library]
                subprocess.run([*command, "--folder", str(folder / "policies")], check=True)
            for about in sorted((folder / "policies").glob(f"{library}_*/about.json")):
                rows += scored(about.parent)
        with arguments.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
