"""Policy files: SB3 opens ours, we open SB3's with the same actions, and nothing in one is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from conftest import tiny
from stable_baselines3 import PPO, SAC, TD3

from gallop.environments import make_env
from gallop.learners import policy_file, safe_archive
from gallop.learners.policy_file import PolicyFileError


def observations_for(env, n=64):
    space = env.observation_space
    space.seed(0)
    samples = [space.sample() for _ in range(n)]
    if isinstance(samples[0], dict):
        return {key: np.stack([s[key] for s in samples]) for key in samples[0]}
    return np.stack(samples)


def written(path, algorithm, env, policy="MlpPolicy", **kwargs):
    model = algorithm(policy, env, device="cpu", seed=3, **kwargs)
    model.save(path)
    return model


ZIPS = {
    "SAC": (SAC, "Pendulum-v1", {}),
    "SAC, ELU, apart": (
        SAC, "HalfCheetah-v5",
        {"policy_kwargs": {"activation_fn": torch.nn.ELU, "net_arch": {"pi": [8, 9], "qf": [7]}}},
    ),
    "SAC, gSDE": (SAC, "Pendulum-v1", {"use_sde": True}),
    "SAC, gSDE, clip_mean, 3 critics": (
        SAC, "Pendulum-v1", {"use_sde": True, "policy_kwargs": {"clip_mean": 0.1, "n_critics": 3}}
    ),
    "SAC, no hidden layer": (SAC, "Pendulum-v1", {"policy_kwargs": {"net_arch": []}}),
    "TD3": (TD3, "Pendulum-v1", {"policy_kwargs": {"net_arch": [10]}}),
    "TD3, Tanh": (TD3, "Hopper-v5", {"policy_kwargs": {"activation_fn": torch.nn.Tanh}}),
    "PPO": (PPO, "HalfCheetah-v5", {}),
    "PPO, ReLU, discrete": (
        PPO, "CartPole-v1", {"policy_kwargs": {"activation_fn": torch.nn.ReLU}}
    ),
    "PPO, gSDE": (PPO, "Pendulum-v1", {"use_sde": True}),
    "PPO, Dict": (PPO, "gallop_dict_task:DictPendulum-v0", {"policy": "MultiInputPolicy"}),
    "SAC, Dict": (SAC, "gallop_dict_task:DictPendulum-v0", {"policy": "MultiInputPolicy"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ZIPS)
def test_sb3s_zips_act_the_same_here(kind, tmp_path):
    algorithm, task, kwargs = ZIPS[kind]
    env = make_env(task, seed=None)
    written(tmp_path / "a.zip", algorithm, env, **kwargs)
    policy = policy_file.read(tmp_path / "a.zip", env.observation_space, env.action_space)
    batch = observations_for(env)
    expected, _ = algorithm.load(tmp_path / "a.zip", device="cpu").predict(
        batch, deterministic=True
    )
    # The kernels add up in another order than PyTorch.
    np.testing.assert_allclose(policy.act(batch), expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0, "a policy that always does the same shows nothing"


@pytest.mark.parametrize(("algo", "algorithm"), [("sac", SAC), ("td3", TD3), ("ppo", PPO)])
def test_plain_sb3_opens_ours_and_trains_on(algo, algorithm, trainers, tmp_path):
    trainer = trainers(tiny(algo, {"learning_rate": "lin_1e-3"}))
    next(trainer.segments())
    trainer.learner.save_policy(tmp_path / "a.zip")
    program = f"""
import sys
sys.modules["gallop"] = None  # as where Gallop is not installed
from stable_baselines3 import {algorithm.__name__}
import gymnasium, numpy
model = {algorithm.__name__}.load("a.zip", env=gymnasium.make("Pendulum-v1"), device="cpu")
numpy.save("actions.npy", model.predict(numpy.ones((4, 3), dtype="float32"), deterministic=True)[0])
assert model.num_timesteps == 120
model.learn(60)
"""
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    batch = np.ones((4, 3), dtype=np.float32)
    np.testing.assert_array_equal(
        np.load(tmp_path / "actions.npy"), trainer.learner.policy.act(batch)
    )


def test_the_normaliser_lies_beside_the_zip_and_is_of_its_moment(trainers, tmp_path):
    trainer = trainers(tiny("sac", normalize={"observations": True}))
    batch = np.array([[0.5, -0.5, 3.0]])
    actions = []
    for number, _ in enumerate(trainer.segments()):
        trainer.learner.save_policy(tmp_path / f"{number}.zip")
        actions.append(trainer.learner.policy.act(batch))
    counts = []
    for number in range(3):
        env = make_env("Pendulum-v1", seed=None)
        path = tmp_path / f"{number}.zip"
        policy = policy_file.read(path, env.observation_space, env.action_space)
        np.testing.assert_array_equal(policy.act(batch), actions[number])
        with np.load(tmp_path / f"{number}.normalizer.npz", allow_pickle=False) as file:
            counts.append(float(file["count"]))
    assert counts[0] < counts[1] < counts[2]


def test_ppo_trained_on_normalised_observations_needs_its_normaliser(trainers, tmp_path):
    trainer = trainers(tiny("ppo", normalize=True))
    next(trainer.segments())
    trainer.learner.save_policy(tmp_path / "a.zip")
    (tmp_path / "a.normalizer.npz").unlink()
    env = make_env("Pendulum-v1", seed=None)
    with pytest.raises(PolicyFileError, match=r"neither a\.normalizer\.npz nor vecnormalize"):
        policy_file.read(tmp_path / "a.zip", env.observation_space, env.action_space)


# --- files of strangers ---


class Bomb:
    """Unpickling this makes a folder: the test's proof that something was run."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def rewritten(source, target, changes):
    """A copy of a zip with some members replaced, or left out where the new content is None."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = changes.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


@pytest.fixture
def pendulum(tmp_path):
    env = make_env("Pendulum-v1", seed=None)
    written(tmp_path / "good.zip", SAC, env, policy_kwargs={"net_arch": [4]})
    return env


def read(path, env):
    return policy_file.read(path, env.observation_space, env.action_space)


def test_no_member_of_a_malicious_zip_is_run(pendulum, tmp_path):
    import base64

    proof = tmp_path / "was_run"
    bomb = pickle.dumps(Bomb(proof))
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        data = json.loads(archive.read("data"))
        names = archive.namelist()
    for value in data.values():
        if isinstance(value, dict) and ":serialized:" in value:
            value[":serialized:"] = base64.b64encode(bomb).decode()
    everything = dict.fromkeys(names, bomb) | {"data": json.dumps(data).encode()}
    with pytest.raises(PolicyFileError, match="cannot be read safely"):
        read(rewritten(tmp_path / "good.zip", tmp_path / "a.zip", everything), pendulum)
    only_data = rewritten(
        tmp_path / "good.zip", tmp_path / "b.zip", {"data": json.dumps(data).encode()}
    )
    assert read(only_data, pendulum).act(np.zeros((1, 3))).shape == (1, 1)
    assert not proof.exists()
    with pytest.raises(Exception):  # noqa: B017  (SB3 fails in many ways)
        SAC.load(only_data)
    assert proof.exists(), "SB3's own loader does run it: the bomb is a real one"


def edited(pendulum_zip, target, change):
    with zipfile.ZipFile(pendulum_zip) as archive:
        data = json.loads(archive.read("data"))
    change(data)
    return rewritten(pendulum_zip, target, {"data": json.dumps(data).encode()})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": None}, "no member 'data'"),
        ({"policy.pth": None}, "no member 'policy.pth'"),
        ({"data": b"{"}, "member data cannot be read"),
        ({"data": b"[1, 2]"}, "is no SB3 policy"),
        ({"data": b"[" * 100_000}, "member data cannot be read"),
        ({"policy.pth": b"nothing"}, "cannot be read safely"),
        ({"policy.pth": b""}, "cannot be read safely"),
    ],
)
def test_damaged_members_get_one_line(changes, words, pendulum, tmp_path):
    path = rewritten(tmp_path / "good.zip", tmp_path / "bad.zip", changes)
    with pytest.raises(PolicyFileError, match=words) as caught:
        read(path, pendulum)
    assert "\n" not in str(caught.value)


def test_what_is_no_zip_or_not_there_gets_one_line(pendulum, tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    content = (tmp_path / "good.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    for name, words in (("text", "is no zip"), ("cut", "is no"), ("none", "no such file")):
        with pytest.raises(PolicyFileError, match=words):
            read(tmp_path / f"{name}.zip", pendulum)


def test_tensors_of_another_kind_are_refused(pendulum, tmp_path):
    for tensors in ({"x": torch.zeros(2)}, [1, 2], {"actor.mu.weight": 3}):
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        path = rewritten(
            tmp_path / "good.zip", tmp_path / "bad.zip", {"policy.pth": buffer.getvalue()}
        )
        with pytest.raises(PolicyFileError):
            read(path, pendulum)


def test_a_policy_of_another_task_is_refused_with_both_spaces(pendulum, tmp_path):
    for task in ("HalfCheetah-v5", "CartPole-v1", "gallop_dict_task:DictPendulum-v0"):
        with pytest.raises(PolicyFileError, match="is a policy of another task"):
            read(tmp_path / "good.zip", make_env(task, seed=None))


def test_an_activation_function_outside_the_list_is_refused(pendulum, tmp_path):
    def change(data):
        data["policy_kwargs"]["activation_fn"] = "<class 'os.system'>"

    with pytest.raises(PolicyFileError, match="activation function"):
        read(edited(tmp_path / "good.zip", tmp_path / "a.zip", change), pendulum)


def test_an_unpacked_member_may_not_be_larger_than_a_policy(pendulum, tmp_path, monkeypatch):
    monkeypatch.setattr(safe_archive, "MAX_MEMBER_BYTES", 1000)
    with pytest.raises(PolicyFileError, match="larger than a policy can be"):
        read(tmp_path / "good.zip", pendulum)
