"""ONNX: every policy as one file that acts as the policy does, and policies from such files."""

from __future__ import annotations

import copy
import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import tiny
from gymnasium import spaces
from onnx import TensorProto, helper, numpy_helper
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import gallop
from gallop.commands.cli import main
from gallop.environments.make import Task, make_env
from gallop.policies.onnx_policy import OnnxPolicy
from gallop.policies.safe_archive import PolicyFileError
from gallop.run_folder.find_policy import Named
from gallop.sharing import onnx_file
from gallop.sharing.onnx_file import export_onnx

WIDE = {"min_action": -3.0, "max_action": 7.0}
SMALL = {"net_arch": [16]}
KINDS = {
    "SAC": (SAC, "Hopper-v5", {"policy_kwargs": SMALL}),
    "SAC, SiLU": (SAC, "Pendulum-v1", {"policy_kwargs": {**SMALL, "activation_fn": torch.nn.SiLU}}),
    "SAC, GELU": (SAC, "Pendulum-v1", {"policy_kwargs": {**SMALL, "activation_fn": torch.nn.GELU}}),
    "SAC, gSDE": (SAC, "Pendulum-v1", {"use_sde": True}),
    "TD3": (TD3, "Hopper-v5", {"policy_kwargs": SMALL}),
    "TQC, ELU": (TQC, "Hopper-v5", {"policy_kwargs": {**SMALL, "activation_fn": torch.nn.ELU}}),
    "CrossQ": (CrossQ, "Hopper-v5", {"policy_kwargs": SMALL}),
    "PPO": (PPO, "Hopper-v5", {"policy_kwargs": SMALL}),
    "PPO, gSDE, squashed": (
        PPO, "Pendulum-v1", {"use_sde": True, "policy_kwargs": {"squash_output": True}}
    ),
    "PPO, discrete": (PPO, "CartPole-v1", {"policy_kwargs": SMALL}),
    "PPO, Dict": (PPO, "gallop_dict_task:DictPendulum-v0", {"policy": "MultiInputPolicy"}),
    "SAC, Dict": (SAC, "gallop_dict_task:DictPendulum-v0", {"policy": "MultiInputPolicy"}),
    "A2C": (A2C, "Pendulum-v1", {"policy_kwargs": SMALL}),
    "DQN": (DQN, "CartPole-v1", {"policy_kwargs": SMALL}),
}  # fmt: skip


def zip_of(kind, folder, normalised=False, wrappers=()):
    """An untrained policy of this kind, with a normaliser of odd statistics; returns its task."""
    algorithm, env, kwargs = KINDS[kind]
    kwargs = copy.deepcopy(kwargs)  # SB3 adds to policy_kwargs
    made = make_env(env, seed=None, wrappers=wrappers)
    policy = kwargs.pop("policy", "MlpPolicy")
    algorithm(policy, made, seed=3, device="cpu", **kwargs).save(folder / "a.zip")
    if normalised:
        environments = VecNormalize(DummyVecEnv([lambda: made]), clip_obs=2.5)
        for _ in range(20):
            environments.reset()
            for _ in range(5):
                environments.step([made.action_space.sample()])
        environments.save(str(folder / "vecnormalize.pkl"))
    return Task(env, {}, tuple(wrappers))


@pytest.mark.parametrize("normalised", [False, True], ids=["raw", "normalised"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_acts_as_the_policy(kind, normalised, tmp_path):
    task = zip_of(kind, tmp_path, normalised)
    difference = export_onnx(Named(tmp_path / "a.zip", task), tmp_path / "a.onnx")
    assert difference < onnx_file.LIMIT
    env = task.closed()
    ours = OnnxPolicy(tmp_path / "a.onnx", env.observation_space, env.action_space)
    named = Named(tmp_path / "a.zip", task).read_for(env)
    env.observation_space.seed(1)
    samples = [env.observation_space.sample() for _ in range(32)]
    if isinstance(env.observation_space, spaces.Dict):
        batch = {key: np.stack([each[key] for each in samples]) for key in samples[0]}
    else:
        batch = np.stack(samples)
    np.testing.assert_allclose(ours.act(batch), named.act(batch), atol=2e-5)


@pytest.mark.filterwarnings("ignore:.*precision lowered")  # Gymnasium's, of RescaleAction
@pytest.mark.parametrize("kind", ["SAC", "TD3", "TQC, ELU", "CrossQ"])
def test_actions_are_scaled_to_other_bounds(kind, tmp_path):
    task = zip_of(kind, tmp_path, wrappers=[{"gymnasium.wrappers:RescaleAction": WIDE}])
    assert export_onnx(Named(tmp_path / "a.zip", task), tmp_path / "a.onnx") < 1e-6
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    observations = np.random.default_rng(0).normal(0, 30, (500, 11)).astype(np.float32)
    (actions,) = session.run(None, {"observation": observations})
    assert -3.00001 < actions.min() < -2 and 6 < actions.max() < 7.00001


def test_the_same_policy_gives_the_same_bytes_in_the_exchange_format(tmp_path):
    task = zip_of("SAC", tmp_path, normalised=True)
    for name in ("a", "b"):
        export_onnx(Named(tmp_path / "a.zip", task), tmp_path / f"{name}.onnx")
    content = (tmp_path / "a.onnx").read_bytes()
    assert content == (tmp_path / "b.onnx").read_bytes()
    assert str(tmp_path).encode() not in content
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param == "batch" and shape[1].dim_value == 11
    told = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert told["gallop.task"]["env"] == "Hopper-v5"
    assert told["gallop.action_high"] == [1.0, 1.0, 1.0]


def test_a_file_that_differs_is_refused(tmp_path, monkeypatch, capsys):
    """The limit is checked with real numbers: a policy whose float32 differs by more than that."""
    zip_of("SAC", tmp_path)
    monkeypatch.setattr(onnx_file, "LIMIT", 1e-12)
    command = ["export", str(tmp_path / "a.zip"), "--env", "Hopper-v5"]
    assert main([*command, "--onnx", str(tmp_path / "a.onnx")]) == 2
    assert "the ONNX file differs from the policy" in capsys.readouterr().err
    assert not (tmp_path / "a.onnx").exists()


def test_a_run_is_exported_and_its_file_scores_the_same(tmp_path, capsys):
    experiment = tiny("ppo", normalize=True, env_kwargs={"max_episode_steps": 50})
    run = gallop.run(experiment, results=tmp_path, name="a")
    assert main(["export", str(run.path), "--onnx", str(tmp_path / "policy.onnx")]) == 0
    assert "largest difference" in capsys.readouterr().out
    ours = gallop.evaluate(run).returns
    theirs = gallop.evaluate(tmp_path / "policy.onnx").returns  # the file records the task
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)
    film = ["watch", str(tmp_path / "policy.onnx"), "--episodes", "1"]
    assert main([*film, "--output", str(tmp_path / "film.mp4")]) == 0
    assert (tmp_path / "film.mp4").stat().st_size > 1_000


@pytest.mark.parametrize("name", ["a.zip", "a"])
def test_the_name_must_end_in_onnx(name, tmp_path, capsys):
    zip_of("PPO", tmp_path)
    command = ["export", str(tmp_path / "a.zip"), "--env", "Hopper-v5"]
    assert main([*command, "--onnx", str(tmp_path / name)]) == 2
    assert "must end in .onnx" in capsys.readouterr().err


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    zip_of("PPO", tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    command = ["export", str(tmp_path / "a.zip"), "--env", "Hopper-v5"]
    assert main([*command, "--onnx", str(tmp_path / "a.onnx")]) == 2
    assert 'pip install "gallop-rl[onnx]"' in capsys.readouterr().err


@pytest.mark.parametrize("in_dict", [False, True])
def test_a_policy_of_images_with_the_channel_last_is_scored_and_exported(in_dict, tmp_path):
    """SB3 stores such a policy with the channel first."""
    experiment = tiny(
        "ppo", env="gallop_image_task:Image-v0", total_timesteps=60, segment=60,
        env_kwargs={"in_dict": in_dict, "max_episode_steps": 20},
        evaluation={"interval": 60, "n_episodes": 1},
    )  # fmt: skip
    run = gallop.run(experiment, results=tmp_path, name="a")
    ours = gallop.evaluate(run).returns
    assert len(ours) == 10 and ours.min() >= 0
    assert main(["export", str(run.path), "--onnx", str(tmp_path / "policy.onnx")]) == 0
    task = {"env": experiment.env, "env_kwargs": experiment.env_kwargs}
    np.testing.assert_array_equal(gallop.evaluate(tmp_path / "policy.onnx", **task).returns, ours)
    shape = onnx.load(tmp_path / "policy.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [each.dim_value for each in shape[1:]] == [36, 40, 3]


# --- files of other libraries --------------------------------------------------------------------


def written(path, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(
        nodes, "policy",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


BOX = spaces.Box(-np.inf, np.inf, (3,), np.float64)
ACTIONS = spaces.Box(-2.0, 2.0, (1,), np.float32)


@pytest.mark.parametrize("batch", ["n", 1])
def test_a_memory_lasts_for_an_episode(batch, tmp_path):
    """h' = h + mean of the observation; the action is h'. Each episode has its own h."""
    path = written(
        tmp_path / "a.onnx",
        [
            helper.make_node("ReduceMean", ["obs"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Add", ["mean", "h_in"], ["h_out"]),
            helper.make_node("Identity", ["h_out"], ["actions"]),
        ],
        {"obs": [batch, 3], "h_in": [batch, 1]},
        {"actions": [batch, 1], "h_out": [batch, 1]},
    )
    policy = OnnxPolicy(path, BOX, ACTIONS)
    rows = np.array([[0.3, 0.3, 0.3], [0.6, 0.6, 0.6]])
    for _ in range(2):
        policy.begin()
        np.testing.assert_allclose(policy.act(rows), [[0.3], [0.6]], rtol=1e-6)
        np.testing.assert_allclose(policy.act(rows), [[0.6], [1.2]], rtol=1e-6)
        np.testing.assert_allclose(policy.act(10 * rows), [[2.0], [2.0]], rtol=1e-6)  # clipped


def test_the_likeliest_output_is_taken(tmp_path):
    path = written(
        tmp_path / "a.onnx",
        [
            helper.make_node("ReduceMean", ["obs"], ["mu"], axes=[1], keepdims=1),
            helper.make_node("Exp", ["mu"], ["log_std"]),
            helper.make_node("Neg", ["mu"], ["value"]),
        ],
        {"obs": ["n", 3]},
        {"value": ["n", 1], "log_std": ["n", 1], "mu": ["n", 1]},
    )
    assert OnnxPolicy(path, BOX, ACTIONS).act(np.ones((2, 3))).tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"obs": ["n", 4]}, {"actions": ["n", 4]}, r"no input takes .* shape \[3\]; it has obs"),
        ({"obs": ["n", 3]}, {"actions": ["n", 3]}, r"no output gives actions of shape \[1\]"),
    ],
)
def test_a_file_for_another_task_is_refused(inputs, outputs, words, tmp_path):
    node = helper.make_node("Identity", ["obs"], ["actions"])
    path = written(tmp_path / "a.onnx", [node], inputs, outputs)
    with pytest.raises(PolicyFileError, match=words):
        OnnxPolicy(path, BOX, ACTIONS)


def test_another_file_is_not_a_policy(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"not a model")
    with pytest.raises(PolicyFileError, match="not a policy in ONNX format"):
        OnnxPolicy(tmp_path / "a.onnx", BOX, ACTIONS)
    with pytest.raises(PolicyFileError, match="cannot be read"):
        OnnxPolicy(tmp_path / "none.onnx", BOX, ACTIONS)
