"""Policy files: SB3 opens Gallop's, Gallop opens SB3's with the same actions, and no code in a file
is run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import sys
import time
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from conftest import tiny
from gymnasium import spaces
from sb3_contrib import TQC
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3

from gallop.algorithms.table import ALGORITHMS
from gallop.environments.make import make_env
from gallop.policies import normalizer_file, safe_archive, sb3_zip
from gallop.policies.sb3_zip import PolicyFileError


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
    "PPO, gSDE, squashed": (
        PPO, "Pendulum-v1", {"use_sde": True, "policy_kwargs": {"squash_output": True}}
    ),
    "PPO, ELU, apart": (
        PPO, "Hopper-v5",
        {"policy_kwargs": {"activation_fn": torch.nn.ELU, "net_arch": {"pi": [8], "vf": [9, 3]}}},
    ),
    "A2C": (A2C, "Pendulum-v1", {}),
    "A2C, ReLU, discrete": (
        A2C, "CartPole-v1", {"policy_kwargs": {"activation_fn": torch.nn.ReLU, "net_arch": [7]}}
    ),
    "DQN": (DQN, "CartPole-v1", {"policy_kwargs": {"net_arch": [9, 5]}}),
    "DQN, Tanh": (DQN, "Acrobot-v1", {"policy_kwargs": {"activation_fn": torch.nn.Tanh}}),
    "TQC": (TQC, "Pendulum-v1", {"policy_kwargs": {"net_arch": [16]}}),
    "TQC, ELU, 3 critics": (
        TQC, "Hopper-v5",
        {"policy_kwargs": {"activation_fn": torch.nn.ELU, "net_arch": {"pi": [8], "qf": [9]},
                           "n_critics": 3, "n_quantiles": 7}},
    ),
    "TQC, gSDE": (TQC, "Pendulum-v1", {"use_sde": True}),
    "PPO, Dict": (PPO, "gallop_dict_task:DictPendulum-v0", {"policy": "MultiInputPolicy"}),
    "SAC, Dict": (SAC, "gallop_dict_task:DictPendulum-v0", {"policy": "MultiInputPolicy"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ZIPS)
def test_sb3s_zips_act_the_same_here(kind, tmp_path):
    algorithm, task, kwargs = ZIPS[kind]
    env = make_env(task, seed=None)
    written(tmp_path / "a.zip", algorithm, env, **kwargs)
    policy = sb3_zip.read(tmp_path / "a.zip", env.observation_space, env.action_space)
    batch = observations_for(env)
    expected, _ = algorithm.load(tmp_path / "a.zip", device="cpu").predict(
        batch, deterministic=True
    )
    # The kernels sum in another order than PyTorch.
    np.testing.assert_allclose(policy.act(batch), expected, rtol=1e-6, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 0, "a policy that always does the same shows nothing"


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_plain_sb3_opens_gallops_zip_and_trains_further(algo, trainers, tmp_path):
    module, _, name = ALGORITHMS[algo].sb3_class.partition(":")
    trainer = trainers(tiny(algo, {"learning_rate": "lin_1e-3"}))
    next(trainer.segments())
    trainer.learner.save_policy(tmp_path / "a.zip")
    program = f"""
import sys
sys.modules["gallop"] = None  # as if Gallop were not installed
from {module} import {name}
import gymnasium, numpy
model = {name}.load("a.zip", env=gymnasium.make("Pendulum-v1"), device="cpu")
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
    # The kernels sum in another order than PyTorch.
    np.testing.assert_allclose(
        np.load(tmp_path / "actions.npy"), trainer.learner.policy.act(batch), rtol=1e-6, atol=1e-6
    )


def test_the_normaliser_file_has_the_statistics_of_the_zips_timestep(trainers, tmp_path):
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
        policy = sb3_zip.read(path, env.observation_space, env.action_space)
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
        sb3_zip.read(tmp_path / "a.zip", env.observation_space, env.action_space)


# --- sampling actions ---


@pytest.mark.parametrize("kind", ["SAC", "PPO", "A2C, ReLU, discrete", "SAC, gSDE", "PPO, gSDE"])
def test_stochastic_actions_come_from_the_seed_and_nothing_else_moves(kind, tmp_path):
    algorithm, task, kwargs = ZIPS[kind]
    env = make_env(task, seed=None)
    written(tmp_path / "a.zip", algorithm, env, **kwargs)
    batch = observations_for(env)

    def drawn(seed):
        options = sb3_zip.Options(stochastic_seed=seed)
        policy = sb3_zip.read(tmp_path / "a.zip", env.observation_space, env.action_space, options)
        before = torch.get_rng_state()
        actions = [policy.act(batch) for _ in range(3)]
        torch.testing.assert_close(before, torch.get_rng_state())
        return np.stack(actions)

    np.testing.assert_array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    plain = sb3_zip.read(tmp_path / "a.zip", env.observation_space, env.action_space)
    assert not np.array_equal(drawn(1)[0], plain.act(batch))


def test_a_policy_without_a_distribution_cannot_be_stochastic(tmp_path):
    env = make_env("Pendulum-v1", seed=None)
    written(tmp_path / "a.zip", TD3, env)
    options = sb3_zip.Options(stochastic_seed=0)
    with pytest.raises(PolicyFileError, match="leave out --stochastic"):
        sb3_zip.read(tmp_path / "a.zip", env.observation_space, env.action_space, options)


# --- zips of the gym era, written by SB3 1.1.0: see gym_era/make.py ---

GYM_ERA = Path(__file__).parent / "gym_era"
GYM_OBSERVATIONS = spaces.Box(-np.array([1, 1, 8], np.float32), np.array([1, 1, 8], np.float32))


@pytest.mark.parametrize("name", sorted(path.stem for path in GYM_ERA.glob("*.zip")))
def test_zips_of_the_gym_era_act_as_they_did_then(name, tmp_path):
    assert importlib.util.find_spec("gym") is None, "gym must be absent for this to show anything"
    with np.load(GYM_ERA / "expected.npz") as file:
        observations, expected = file["observations"], file[name]
    actions = spaces.Discrete(2) if expected.ndim == 1 else spaces.Box(-2.0, 2.0, (1,), np.float32)
    copy = Path(shutil.copy(GYM_ERA / f"{name}.zip", tmp_path))  # away from vecnormalize.pkl
    policy = sb3_zip.read(copy, GYM_OBSERVATIONS, actions)
    np.testing.assert_allclose(policy.act(observations), expected, rtol=1e-6, atol=1e-6)
    if name == "sac":
        with pytest.raises(ModuleNotFoundError, match="gym"):
            SAC.load(copy)


def test_the_zoos_normaliser_is_found_and_read_without_unpickling(tmp_path):
    with np.load(GYM_ERA / "expected.npz") as file:
        observations, normalized = file["observations"], file["normalized"]
    folder = tmp_path / "Pendulum-v1_1"
    (folder / "Pendulum-v1").mkdir(parents=True)
    shutil.copy(GYM_ERA / "ppo.zip", folder / "Pendulum-v1.zip")
    actions = spaces.Box(-2.0, 2.0, (1,), np.float32)
    plain = sb3_zip.read(folder / "Pendulum-v1.zip", GYM_OBSERVATIONS, actions)
    shutil.copy(GYM_ERA / "vecnormalize.pkl", folder / "Pendulum-v1")
    policy = sb3_zip.read(folder / "Pendulum-v1.zip", GYM_OBSERVATIONS, actions)
    np.testing.assert_allclose(policy.act(observations), plain.act(normalized), atol=1e-6)
    assert not np.allclose(policy.act(observations), plain.act(observations))
    shutil.copy(folder / "Pendulum-v1.zip", folder / "best_model.zip")
    best = sb3_zip.read(folder / "best_model.zip", GYM_OBSERVATIONS, actions)
    np.testing.assert_array_equal(best.act(observations), policy.act(observations))
    shutil.copy(folder / "Pendulum-v1.zip", folder / "other.zip")
    assert normalizer_file.normalizer_beside(folder / "other.zip") is None, "another policy's"
    four = spaces.Box(-1, 1, (4,))
    written(folder / "best_model.zip", SAC, Shapes(four, actions))
    with pytest.raises(PolicyFileError, match=r"shape \[3\], but the policy's have shape \[4\]"):
        sb3_zip.read(folder / "best_model.zip", four, actions)


class Shapes(gymnasium.Env):
    """A task that has only spaces."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


# --- untrusted files ---


class Bomb:
    """Unpickling this makes a folder, which proves that code was run."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def rewritten(source, target, changes):
    """A copy of a zip with some members replaced, or removed where the new content is None."""
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
    return sb3_zip.read(path, env.observation_space, env.action_space)


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
        ({"data": b"[1, 2]"}, "not an SB3 policy"),
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


def test_a_missing_file_or_one_that_is_not_a_zip_gets_one_line(pendulum, tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    content = (tmp_path / "good.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    for name, words in (("text", "not a zip"), ("cut", "not a"), ("none", "no such file")):
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
        with pytest.raises(PolicyFileError, match="a policy of another task"):
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


def test_a_custom_policy_class_is_refused(pendulum, tmp_path):
    def change(data):
        data["policy_class"]["__module__"] = "my_policies"

    with pytest.raises(PolicyFileError, match=r"custom policy class.*--trust"):
        read(edited(tmp_path / "good.zip", tmp_path / "a.zip", change), pendulum)


def test_other_bounds_of_the_actions_are_another_task(pendulum, tmp_path):
    def change(data):
        data["action_space"]["high"] = "[1.]"

    with pytest.raises(PolicyFileError, match=r"actions' high is \[1\.\], the task's \[2\.0\]"):
        read(edited(tmp_path / "good.zip", tmp_path / "a.zip", change), pendulum)


def test_trust_opens_unsafe_files_after_a_warning(pendulum, tmp_path, caplog):
    def change(data):
        data["policy_class"]["__module__"] = "my_policies"

    path = edited(tmp_path / "good.zip", tmp_path / "a.zip", change)
    options = sb3_zip.Options(trust=True)
    policy = sb3_zip.read(path, pendulum.observation_space, pendulum.action_space, options)
    batch = observations_for(pendulum)
    expected = read(tmp_path / "good.zip", pendulum).act(batch)
    np.testing.assert_allclose(policy.act(batch), expected, atol=1e-6)
    assert "runs the code in it" in caplog.text


# --- malicious archives ---


def saved(tensors):
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def weights(path):
    with zipfile.ZipFile(path) as archive:
        return torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)


def packed(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(pendulum, tmp_path):
    (tmp_path / "a.zip").write_bytes(packed([("data", b" " * 50_000_000)]))
    assert (tmp_path / "a.zip").stat().st_size < 100_000
    with pytest.raises(PolicyFileError, match=r"'data' unpacks to .* times its size"):
        read(tmp_path / "a.zip", pendulum)


def test_a_bomb_inside_the_weights_is_refused(pendulum, tmp_path):
    inner = packed([("archive/data.pkl", b""), ("archive/data/0", bytes(50_000_000))])
    path = rewritten(tmp_path / "good.zip", tmp_path / "a.zip", {"policy.pth": inner})
    with pytest.raises(PolicyFileError, match=r"archive/data/0' unpacks to .* times its size"):
        read(path, pendulum)


def test_many_members_and_names_outside_are_refused(pendulum, tmp_path):
    for name, members, words in (
        ("many", [(f"{n}", b"") for n in range(1_001)], "1,001 members; at most 1,000"),
        ("up", [("../../evil", b"x")], "points outside"),
        ("root", [("/etc/evil", b"x")], "points outside"),
        ("drive", [("C:\\evil", b"x")], "points outside"),
        ("back", [("..\\evil", b"x")], "points outside"),
    ):
        (tmp_path / f"{name}.zip").write_bytes(packed(members))
        with pytest.raises(PolicyFileError, match=words):
            read(tmp_path / f"{name}.zip", pendulum)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(pendulum, tmp_path):
    (tmp_path / "a.zip").write_bytes(packed([("data", b"{}"), ("data", b"[]")]))
    with pytest.raises(PolicyFileError, match="two members have the name 'data'"):
        read(tmp_path / "a.zip", pendulum)


def test_a_member_longer_than_its_header_says_is_refused(pendulum, tmp_path):
    content = bytearray((tmp_path / "good.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        size = archive.getinfo("data").file_size
    old, lie = size.to_bytes(4, "little") * 2, (10).to_bytes(4, "little") * 2
    assert content.count(old) == 2, "in the member's own header and in the directory"
    (tmp_path / "a.zip").write_bytes(content.replace(old, lie))
    with pytest.raises(PolicyFileError):
        read(tmp_path / "a.zip", pendulum)


def test_tensors_that_claim_more_than_they_hold_are_refused(pendulum, tmp_path):
    tensors = weights(tmp_path / "good.zip")
    huge = tensors | {"actor.latent_pi.0.weight": torch.zeros(1, 1).expand(10_000_000, 10_000)}
    path = rewritten(tmp_path / "good.zip", tmp_path / "a.zip", {"policy.pth": saved(huge)})
    with pytest.raises(PolicyFileError, match="larger than the file"):
        read(path, pendulum)


def test_layers_that_do_not_fit_are_refused_before_they_are_built(pendulum, tmp_path):
    tensors = weights(tmp_path / "good.zip")
    for wide in ({"actor.latent_pi.0.weight": torch.zeros(100_000, 1)},
                 {"actor.latent_pi.0.weight": torch.zeros(4, 3, 1)},
                 {"critic.qf0.2.weight": torch.zeros(1, 100_000)}):  # fmt: skip
        path = rewritten(
            tmp_path / "good.zip", tmp_path / "a.zip", {"policy.pth": saved(tensors | wide)}
        )
        with pytest.raises(PolicyFileError, match="do not fit"):
            read(path, pendulum)


def test_weights_of_nan_are_refused(pendulum, tmp_path):
    tensors = weights(tmp_path / "good.zip")
    tensors["actor.mu.bias"] = torch.full_like(tensors["actor.mu.bias"], torch.nan)
    path = rewritten(tmp_path / "good.zip", tmp_path / "a.zip", {"policy.pth": saved(tensors)})
    with pytest.raises(PolicyFileError, match="NaN or infinity"):
        read(path, pendulum)


def test_the_old_format_of_weights_is_pickle_and_refused(pendulum, tmp_path):
    buffer = io.BytesIO()
    torch.save(weights(tmp_path / "good.zip"), buffer, _use_new_zipfile_serialization=False)
    path = rewritten(tmp_path / "good.zip", tmp_path / "a.zip", {"policy.pth": buffer.getvalue()})
    with pytest.raises(PolicyFileError, match=r"format before 1\.6 is pickle; --trust"):
        read(path, pendulum)


# --- malicious strings and numbers ---


@contextlib.contextmanager
def ticking():
    """A block that must end soon: malicious input could make it take hours.

    The limit is generous, as a busy machine can take ten times as long as a quiet one.
    """
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("low", ["1" * 24 + "x", "[1.2.3]", "1" * 1_000_000, " " * 100_000 + "x"])
def test_bounds_that_are_not_numbers_are_skipped_at_once(low, pendulum, tmp_path):
    path = edited(
        tmp_path / "good.zip", tmp_path / "a.zip", lambda data: data["action_space"].update(low=low)
    )
    with ticking():
        assert read(path, pendulum).act(np.zeros((1, 3))).shape == (1, 1)


@pytest.mark.parametrize(
    ("member", "key", "value"),
    [
        ("action_space", "_shape", ["\x1b[31m\n"]),
        ("action_space", "high", "[1.\n 2.]"),
        ("action_space", ":type:", "<class 'gymnasium.\u2028Box'>"),
        ("observation_space", "n", "\x1b[31m 3"),
        ("policy_kwargs", "activation_fn", {"\x1b": "\r"}),
        ("policy_kwargs", "clip_mean", 10**400),
        ("policy_kwargs", "clip_mean", float("nan")),
        ("policy_kwargs", "normalize_images", [[]]),
        ("policy_kwargs", "squash_output", True),
        ("policy_class", "__module__", "\x1b[2J\n"),
    ],
)
def test_untrusted_text_becomes_one_printable_line(member, key, value, pendulum, tmp_path):
    path = edited(
        tmp_path / "good.zip", tmp_path / "a.zip", lambda data: data[member].update({key: value})
    )
    with pytest.raises(PolicyFileError) as caught:
        read(path, pendulum)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1_000


def test_line_breaks_in_a_file_name_are_spelled_out(pendulum, tmp_path):
    with pytest.raises(PolicyFileError, match=r"\\x1b\[31m\\n") as caught:
        read(tmp_path / "\x1b[31m\n.zip", pendulum)
    assert str(caught.value).isprintable()


def test_numpy_numbers_in_policy_kwargs_are_read(tmp_path):
    env = make_env("Pendulum-v1", seed=None)
    kwargs = {"clip_mean": np.float32(0.01), "net_arch": [4]}
    written(tmp_path / "a.zip", SAC, env, use_sde=True, policy_kwargs=kwargs)
    batch = observations_for(env)
    expected, _ = SAC.load(tmp_path / "a.zip", device="cpu").predict(batch, deterministic=True)
    np.testing.assert_allclose(read(tmp_path / "a.zip", env).act(batch), expected, atol=1e-6)


def test_images_that_sb3_does_not_scale_are_not_scaled_here(tmp_path):
    images = Shapes(spaces.Box(0, 255, (3, 36, 36), np.uint8), spaces.Box(-1, 1, (2,)))
    kwargs = {"normalize_images": False, "net_arch": [4]}
    model = written(tmp_path / "a.zip", PPO, images, policy_kwargs=kwargs)
    batch = observations_for(images, n=4)
    expected, _ = model.predict(batch, deterministic=True)
    np.testing.assert_allclose(read(tmp_path / "a.zip", images).act(batch), expected, atol=1e-6)
    floats = Shapes(spaces.Box(0, 255, (3, 36, 36)), images.action_space)
    with pytest.raises(PolicyFileError, match="of float32, not uint8"):
        read(tmp_path / "a.zip", floats)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2])),
        (spaces.Discrete(3), spaces.Discrete(3, start=1)),
    ],
)
def test_actions_that_mean_something_else_are_another_task(theirs, ours, tmp_path):
    observations = spaces.Box(-1, 1, (3,))
    written(tmp_path / "a.zip", PPO, Shapes(observations, theirs))
    read(tmp_path / "a.zip", Shapes(observations, theirs))
    with pytest.raises(PolicyFileError, match="another task"):
        read(tmp_path / "a.zip", Shapes(observations, ours))


def test_multibinary_observations_of_two_dimensions_are_the_same_task(tmp_path):
    env = Shapes(spaces.MultiBinary([2, 2]), spaces.Box(-1, 1, (1,)))
    written(tmp_path / "a.zip", PPO, env)
    assert read(tmp_path / "a.zip", env).act(np.ones((1, 2, 2))).shape == (1, 1)


def test_deep_networks_act_the_same(tmp_path):
    env = make_env("Pendulum-v1", seed=None)
    model = written(tmp_path / "a.zip", TD3, env, policy_kwargs={"net_arch": [4] * 40})
    batch = observations_for(env)
    expected, _ = model.predict(batch, deterministic=True)
    np.testing.assert_allclose(read(tmp_path / "a.zip", env).act(batch), expected, atol=1e-6)


# --- malicious tensors ---


class Call:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def with_tensors(tensors, tmp_path):
    return rewritten(tmp_path / "good.zip", tmp_path / "a.zip", {"policy.pth": saved(tensors)})


@pytest.mark.filterwarnings("ignore")  # PyTorch warns that these kinds are in beta
def test_unusual_tensors_get_one_line(pendulum, tmp_path):
    good = weights(tmp_path / "good.zip")
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    for other in (
        {"x": torch.zeros(2, dtype=torch.bfloat16)},
        {"x": torch.zeros(2).to(torch.float8_e4m3fn)},
        {"x": torch.zeros(2, dtype=torch.complex64)},
        {"x": torch.eye(2).to_sparse()},
        {"x": torch.eye(2).to_sparse_csr()},
        {"x": nested},
        {"x": torch.zeros(2, device="meta")},
        {f"actor.latent_pi.{'9' * 5000}.weight": torch.zeros(4, 4)},
        {"mlp_extractor.shared_net.²": torch.zeros(4)},
        {"actor.\x1b[31m\n.0.weight": torch.zeros(4)},
        {f"x{number}": torch.zeros(1).expand(1) for number in range(1_001)},
    ):
        with pytest.raises(PolicyFileError) as caught:
            read(with_tensors(good | other, tmp_path), pendulum)
        assert str(caught.value).isprintable()


def test_a_list_of_tensors_may_not_call_functions_that_fill_the_memory(pendulum, tmp_path):
    good = weights(tmp_path / "good.zip")
    for call in (Call(bytearray, (10**12,)), Call(torch.Tensor, (10**12,))):
        with pytest.raises(PolicyFileError, match="which tensors do not need"):
            read(with_tensors(good | {"x": call}, tmp_path), pendulum)
    part = packed([("archive/DATA.PKL", pickle.dumps(Call(bytearray, (10**12,))))])
    path = rewritten(tmp_path / "good.zip", tmp_path / "a.zip", {"policy.pth": part})
    with pytest.raises(PolicyFileError, match="cannot be read safely: it uses STACK_GLOBAL"):
        read(path, pendulum)


@pytest.mark.parametrize("kind", ["no inputs", "one input", "many critics"])
def test_networks_larger_than_those_in_the_file_are_not_built(kind, pendulum, tmp_path):
    n = 1_000_000_000 if kind == "no inputs" else 3_000_000
    good = weights(tmp_path / "good.zip")
    others = {k: v for k, v in good.items() if not k.startswith(("actor.", "critic."))}
    if kind == "many critics":
        hidden = {
            "critic.qf0.0.weight": torch.zeros(n, 4),
            "critic.qf0.2.weight": torch.zeros(1, n),
        }
        hidden |= {f"critic.qf{number}.0.bias": torch.zeros(1) for number in range(1, 500)}
        hidden |= {k: v for k, v in good.items() if k.startswith("actor.")}
    else:
        hidden = {"actor.latent_pi.0.weight": torch.zeros(n, kind == "one input")}
        hidden |= {"actor.log_std.weight": torch.zeros(1)}
    with ticking(), pytest.raises(PolicyFileError, match=r"larger than those|do not fit"):
        read(with_tensors(others | hidden, tmp_path), pendulum)


def test_a_huge_directory_is_refused_before_it_is_read(pendulum, tmp_path):
    entry = b"PK\x01\x02" + bytes(42)
    (tmp_path / "a.zip").write_bytes(entry * 1_000_000)
    with ticking(), pytest.raises(PolicyFileError, match="1,000,000 members"):
        read(tmp_path / "a.zip", pendulum)


def test_members_with_other_compression_methods_are_refused(pendulum, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("data", "{}")
    with pytest.raises(PolicyFileError, match="unsupported compression method"):
        read(tmp_path / "a.zip", pendulum)


@pytest.mark.skipif(os.name == "nt", reason="has neither pipes nor devices in its folders")
def test_pipes_and_devices_are_refused(pendulum, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        for suffix in ("zip", "pkl", "npz"):
            link = tmp_path / f"link.{suffix}"
            link.symlink_to(path)
            with pytest.raises(PolicyFileError, match="not a regular file"):
                read(link, pendulum) if suffix == "zip" else normalizer_file.read_normalizer(link)
            link.unlink()


# --- malicious normaliser files ---


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def claims(*shape):
    """A .npy file that claims to be larger than it is."""
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "changes",
    [
        {"mean/": claims(10**13)},
        {"mean/": claims(2**62, 4)},
        {"mean/": claims(-1)},
        {"mean/": npy(np.zeros(10_000_000))},
        {"mean/": npy(np.array(["\x1b[31m\n"]))},
        {"mean/": npy(np.array([np.nan]))},
        {"mean/": pickle.dumps(Call(os.getcwd, ()))},
        {"variance/": npy(-np.ones(3))},
        {"variance/": None},
        {"epsilon": npy(np.array("\x1b[31m\n"))},
        {"count": npy(np.ones(3))},
        {"clip": npy(np.inf)},
    ],
)
def test_an_invalid_normaliser_file_gets_one_line(changes, tmp_path):
    arrays = {"mean/": np.zeros(3), "variance/": np.ones(3), "count": 1.0, "clip": 10.0,
              "epsilon": 1e-8}  # fmt: skip
    members = {name: npy(np.array(value)) for name, value in arrays.items()}
    path = tmp_path / "a.normalizer.npz"
    path.write_bytes(packed([(f"{name}.npy", content) for name, content in members.items()]))
    assert normalizer_file.read_normalizer(path).clip == 10
    members |= changes
    path.write_bytes(packed([(f"{n}.npy", content) for n, content in members.items() if content]))
    with pytest.raises(PolicyFileError) as caught:
        normalizer_file.read_normalizer(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1_000


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def doubling():
    """A tuple of a tuple twice, sixty deep: small, but it takes forever to print."""
    pairs = b"".join(b"h%ch%c\x86q%c" % (level, level, level + 1) for level in range(60))
    return b"K\x01q\x00" + pairs + b"h\x3c"


TEXT = b"X" + (1_000_000).to_bytes(4, "little") + b"a" * 1_000_000 + b"q\x01"
BYTES = b"\x96" + (10**7).to_bytes(8, "little") + b"a" * 10**7 + b"q\x01"
DTYPE = named("numpy", "dtype") + b"X\x02\0\0\0i1\x85Rq\x00"
FROM_BYTES = (
    named("numpy.core.numeric", "_frombuffer")
    + b"(h\x01h\x00J"
    + (10**7).to_bytes(4, "little")
    + b"X\x01\0\0\0CtR"
)
STATE = b"}(" + b"".join(b"X\x05\0\0\0%05dN" % key for key in range(25_000)) + b"uq\x02"


@pytest.mark.parametrize(
    "program",
    [
        b"(" * 10_000_000 + b".",
        b"]" * 10_000_000 + b".",
        doubling() + b"h\x3c\x93.",
        doubling() + named("numpy", "dtype") + b"h\x3c\x85R.",
        TEXT + (named("_codecs", "encode") + b"h\x01X\x06\0\0\0latin1\x86R") * 10_000 + b".",
        BYTES + DTYPE + FROM_BYTES * 9_000 + b".",
        STATE + (named("builtins", "object") + b")\x81h\x02b") * 9_000 + b".",
    ],
    ids=["marks", "lists", "names", "dtypes", "encoded", "copied", "states"],
)
def test_pickles_that_grow_are_refused(program, tmp_path):
    import tracemalloc

    (tmp_path / "vecnormalize.pkl").write_bytes(b"\x80\x05" + program)
    tracemalloc.start()
    try:
        with ticking(), pytest.raises(PolicyFileError) as caught:
            normalizer_file.read_normalizer(tmp_path / "vecnormalize.pkl")
        assert tracemalloc.get_traced_memory()[1] < 300_000_000
    finally:
        tracemalloc.stop()
    assert str(caught.value).isprintable()


WATCHED = {
    *("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"),
    *("os.mkdir", "os.remove", "shutil.rmtree", "socket.connect"),
}
_seen: list[str] = []
_watching = False


def _audit(event, arguments):
    if _watching and (
        event in WATCHED or event in ("exec", "os.mkdir", "os.remove", "shutil.rmtree")
    ):
        _seen.append(f"{event} {arguments!r:.200}")


def mutations(content, rng):
    """A damaged copy: mostly a few bytes are changed, so that much can still be read; else more."""
    mutated = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at, other = (int(place) for place in rng.integers(len(mutated), size=2))
        kind = int(rng.integers(10))
        if kind < 4:
            mutated[at] ^= 1 << int(rng.integers(8))
        elif kind < 7:
            mutated[at] = mutated[other]
        elif kind == 7:
            mutated[at : at + 16] = mutated[other : other + 16]
        elif kind == 8:
            mutated[at : at + 4] = rng.bytes(4)
        else:
            del mutated[at : at + int(rng.integers(1, 50))]
            mutated.extend(b"\0")
    return bytes(mutated)


def repacked(source, rng, bomb):
    """A whole zip whose members were damaged one by one, so that checksums and sizes are right."""
    with zipfile.ZipFile(source) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = ("data", "policy.pth")[int(rng.integers(2))]
    if name == "policy.pth" and rng.integers(2):  # one level deeper
        with zipfile.ZipFile(io.BytesIO(members[name])) as inner:
            parts = {part: inner.read(part) for part in inner.namelist()}
        part = [*parts][int(rng.integers(len(parts)))]
        parts[part] = bomb if rng.integers(10) == 0 else mutations(parts[part] or b"x", rng)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as inner:
            for part, content in parts.items():
                inner.writestr(part, content)
        members[name] = buffer.getvalue()
    else:
        members[name] = bomb if rng.integers(10) == 0 else mutations(members[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # zipfile and torch warn before the file is refused
def test_ten_thousand_damaged_files_run_nothing_and_get_one_line_each(pendulum, tmp_path):
    global _watching
    sys.addaudithook(_audit)
    bomb = pickle.dumps(Bomb(tmp_path / "was_run"))
    rng = np.random.default_rng(0)
    good, pickled = tmp_path / "good.zip", GYM_ERA / "vecnormalize.pkl"
    read(good, pendulum)  # imports come before the watching
    path, other = tmp_path / "fuzzed.zip", tmp_path / "fuzzed" / "vecnormalize.pkl"
    other.parent.mkdir()
    n_read = n_refused = 0
    for number in range(10_000):
        if number % 3 == 0:
            path.write_bytes(mutations(good.read_bytes(), rng))
        elif number % 3 == 1:
            path.write_bytes(repacked(good, rng, bomb))
        else:
            content = pickled.read_bytes()
            other.write_bytes(bomb if rng.integers(10) == 0 else mutations(content, rng))
        _watching = True
        try:
            if number % 3 == 2:
                normalizer_file.read_normalizer(other)
            else:
                read(path, pendulum).act(np.zeros((1, 3), np.float32))
            n_read += 1
        except PolicyFileError as error:
            n_refused += 1
            assert "\n" not in str(error) and len(str(error)) < 1_000
        finally:
            _watching = False
    assert not (tmp_path / "was_run").exists()
    assert _seen == []
    assert n_refused > 5_000 and n_read > 200, (n_read, n_refused)


def test_the_guard_of_the_fuzzing_test_notices_unpickling(tmp_path):
    global _watching
    sys.addaudithook(_audit)
    _watching = True
    try:
        pickle.loads(pickle.dumps(Bomb(tmp_path / "was_run")))  # noqa: S301  (on purpose)
    finally:
        _watching = False
    assert any("pickle.find_class" in line for line in _seen)
    _seen.clear()
