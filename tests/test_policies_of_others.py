"""Files in the layouts of other libraries, against what those libraries compute.

`tests/others/policies.py` trains policies in the libraries themselves, and compares them with
Gallop. These are the layouts it wrote: CleanRL 016ca33, rsl_rl 5.5.1, rl_games 1.6.5, skrl 2.1.1,
tianshou 2.0.1, RLlib 2.60.0, PyTorch 2.13.
"""

from __future__ import annotations

import itertools
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import onnx
import pytest
import torch
from gymnasium import spaces
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from gallop.commands.cli import main
from gallop.environments.make import Task
from gallop.evaluation.episodes import evaluate as play
from gallop.policies import torch_checkpoint
from gallop.policies.onnx_policy import OnnxPolicy
from gallop.policies.safe_archive import PolicyFileError
from gallop.policies.torch_checkpoint import read
from gallop.run_folder.find_policy import Named

N, M = 3, 2
BOX = spaces.Box(-np.inf, np.inf, (N,), np.float64)
LOW, HIGH = np.array([-2.0, -0.5], np.float32), np.array([2.0, 1.5], np.float32)
ACTIONS = spaces.Box(LOW, HIGH)
MEAN = np.array([0.3, -1.0, 5.0])
VARIANCE = np.array([1e-6, 0.04, 900.0])  # the first: epsilons of 1e-8 to 1e-2 all differ


def observations():
    """Some near the mean, some 30 deviations away: past clips at 5 and at 10."""
    draw = np.random.default_rng(0).normal(0, 1, (60, N))
    draw[30:] *= 30
    return MEAN + draw * np.sqrt(VARIANCE)


def network(activation, sizes=(N, 8, 8, M), seed=0, scale=6.0):
    """An MLP whose outputs go past the bounds."""
    torch.manual_seed(seed)
    layers = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), activation()]
    with torch.no_grad():
        layers[-2].weight.mul_(scale)
    return nn.Sequential(*layers[:-1])


def named(prefix, module):
    return {f"{prefix}{name}": value for name, value in module.state_dict().items()}


def outputs(module, values):
    return module(torch.as_tensor(values, dtype=torch.float32)).detach().numpy()


def check(path, expected, activation=None, raw=False):
    policy = read(path, BOX, ACTIONS, activation, raw)
    actions = policy.act(observations())
    np.testing.assert_allclose(actions, expected, rtol=0, atol=1e-5)
    assert (actions >= LOW).all() and (actions <= HIGH).all()


def saved(path, content):
    torch.save(content, path)
    return path


# --- CleanRL -------------------------------------------------------------------------------------


def cleanrl_ppo():
    actor, critic = network(nn.Tanh), network(nn.Tanh, (N, 8, 8, 1))
    state = {"actor_logstd": torch.zeros(1, M)}
    return actor, state | named("critic.", critic) | named("actor_mean.", actor)


def cleanrl_actor(last, scale, bias):
    """SAC's actor (last: fc_mean), or that of TD3 (fc_mu)."""
    actor = network(nn.ReLU)
    names = {"0": "fc1", "2": "fc2", "4": last}
    state = {
        f"{names[name.split('.')[0]]}.{name.split('.')[1]}": value
        for name, value in actor.state_dict().items()
    }
    if last == "fc_mean":
        state |= {"fc_logstd.weight": torch.ones(M, 8), "fc_logstd.bias": torch.ones(M)}
    return actor, state | {"action_scale": torch.tensor(scale), "action_bias": torch.tensor(bias)}


def test_cleanrls_ppo_is_scored_without_its_normaliser_only_if_asked_to(tmp_path):
    actor, state = cleanrl_ppo()
    path = saved(tmp_path / "ppo_continuous_action.cleanrl_model", state)
    with pytest.raises(PolicyFileError, match=r"does not store .* --normalizer none"):
        read(path, BOX, ACTIONS, None, raw=False)
    check(path, np.clip(outputs(actor, observations()), LOW, HIGH), raw=True)


@pytest.mark.parametrize("algorithm", ["SAC", "TD3"])
def test_cleanrls_actors_squash_and_scale(algorithm, tmp_path):
    scale, bias = (HIGH - LOW) / 2, (HIGH + LOW) / 2
    actor, state = cleanrl_actor("fc_mean" if algorithm == "SAC" else "fc_mu", scale, bias)
    content = (state, {"fc1.weight": torch.zeros(8, N + M)}, {}) if algorithm == "TD3" else state
    path = saved(tmp_path / "a.cleanrl_model", content)
    check(path, np.tanh(outputs(actor, observations())) * scale + bias)


def test_cleanrls_actions_have_the_scale_in_the_file(tmp_path):
    scale, bias = np.array([0.1, 5.0], np.float32), np.array([0.2, 0.0], np.float32)
    actor, state = cleanrl_actor("fc_mean", scale, bias)
    path = saved(tmp_path / "a.pt", state)
    expected = np.tanh(outputs(actor, observations())) * scale + bias
    check(path, np.clip(expected, LOW, HIGH))


# --- rsl_rl --------------------------------------------------------------------------------------


def rsl_rl(layout):
    """A checkpoint of versions 1, 3 or 5, with or without its normaliser; returns its actor."""
    actor = network(nn.ELU)
    statistics = {"_mean": MEAN, "_var": VARIANCE, "_std": np.sqrt(VARIANCE)}
    statistics = {
        name: torch.as_tensor(value, dtype=torch.float32)[None]
        for name, value in statistics.items()
    } | {"count": torch.tensor(640)}
    if layout.startswith("5"):
        state = {"distribution.std_param": torch.ones(M)} | named("mlp.", actor)
        if layout == "5":
            state |= {f"obs_normalizer.{name}": value for name, value in statistics.items()}
        found = {"actor_state_dict": state, "critic_state_dict": {}, "iter": 3, "infos": None}
    else:
        state = {"std": torch.ones(M)} | named("actor.", actor)
        state |= named("critic.", network(nn.ELU, (N, 8, 1)))
        found = {"model_state_dict": state, "optimizer_state_dict": {}, "iter": 3, "infos": None}
        if layout == "1":
            found["obs_norm_state_dict"] = statistics
        else:
            state |= {f"actor_obs_normalizer.{name}": value for name, value in statistics.items()}
    return actor, found


@pytest.mark.parametrize("layout", ["5", "5, raw", "3", "1"])
def test_rsl_rl_adds_its_epsilon_of_a_hundredth_to_the_deviation(layout, tmp_path):
    actor, found = rsl_rl(layout)
    path = saved(tmp_path / "model_3.pt", found)
    x = observations()
    scaled = x if layout == "5, raw" else (x - MEAN) / (np.sqrt(VARIANCE) + 0.01)  # never clipped
    check(path, np.clip(outputs(actor, scaled), LOW, HIGH), "elu")


def test_rsl_rls_two_outputs_per_action_do_not_fit(tmp_path):
    """The Beta and the heteroscedastic distribution: the policy is more than its last layer."""
    found = {"actor_state_dict": named("mlp.", network(nn.ELU, (N, 8, 2 * M)))}
    with pytest.raises(PolicyFileError, match="maps 3 observations to 4 actions"):
        read(saved(tmp_path / "a.pt", found), BOX, ACTIONS, "elu", raw=False)


# --- rl_games ------------------------------------------------------------------------------------


def rl_games(**more):
    """A checkpoint; `torch.compile`, its default, is the reason for the prefix."""
    actor = network(nn.ELU)
    statistics = {"running_mean": MEAN, "running_var": VARIANCE, "count": np.array(769.0)}
    model = {f"running_mean_std.{k}": torch.as_tensor(v) for k, v in statistics.items()}
    model |= {f"value_mean_std.{k}": torch.ones(1, dtype=torch.float64) for k in statistics}
    model |= {"a2c_network.sigma": torch.zeros(M)}
    for name, value in actor.state_dict().items():
        model[f"a2c_network.{'actor_mlp.' if name[0] != '4' else ''}{name}"] = value
    model = {name.replace("a2c_network.4.", "a2c_network.mu."): v for name, v in model.items()}
    model |= {"a2c_network.value.weight": torch.ones(1, 8), "a2c_network.value.bias": torch.ones(1)}
    model = {f"_orig_mod.{name}": value for name, value in (model | more).items()}
    return actor, {"model": model, "epoch": 3, "frame": 3072, "last_mean_rewards": -1e9}


def test_rl_games_clips_normalised_observations_and_scales_clipped_actions(tmp_path, caplog):
    actor, found = rl_games()
    path = saved(tmp_path / "a.pth", found)
    scaled = np.clip((observations() - MEAN) / np.sqrt(VARIANCE + 1e-5), -5, 5)
    unit = np.clip(outputs(actor, scaled), -1, 1)
    check(path, (HIGH - LOW) / 2 * unit + (HIGH + LOW) / 2, "elu")
    assert "does not store clip_actions: taken as true" in caplog.text


def test_what_makes_no_difference_is_not_assumed(tmp_path, caplog):
    path = saved(tmp_path / "a.pth", rl_games()[1])
    read(path, BOX, spaces.Box(-1.0, 1.0, (M,)), "elu", raw=False)
    assert not caplog.text


# --- skrl ----------------------------------------------------------------------------------------


def skrl(shared=False, **more):
    policy = network(nn.ELU)
    state = {"log_std_parameter": torch.zeros(M)} | named("net_container.", policy)
    if shared:
        state = {name.replace("net_container.4", "policy_layer"): v for name, v in state.items()}
        state |= {"value_layer.weight": torch.ones(1, 8), "value_layer.bias": torch.ones(1)}
    scaler = {"running_mean": torch.as_tensor(MEAN), "running_variance": torch.as_tensor(VARIANCE)}
    scaler["current_count"] = torch.tensor(1025.0, dtype=torch.float64)
    value = {"net_container.0.weight": torch.ones(8, N)}
    return policy, {"policy": state, "value": value, "observation_preprocessor": scaler} | more


@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
def test_skrl_adds_its_epsilon_to_the_deviation_and_clips_observations(shared, tmp_path, caplog):
    policy, found = skrl(shared)
    path = saved(tmp_path / "best_agent.pt", found)
    scaled = np.clip((observations() - MEAN) / (np.sqrt(VARIANCE) + 1e-8), -5, 5)
    check(path, np.clip(outputs(policy, scaled), LOW, HIGH), "elu")
    assert "does not store what follows the last layer: taken as nothing" in caplog.text


def test_skrls_off_policy_actors_are_refused(tmp_path):
    _, found = skrl(critic_1={"net_container.0.weight": torch.ones(8, N + M)})
    with pytest.raises(PolicyFileError, match="does not store what its off-policy actors do"):
        read(saved(tmp_path / "agent.pt", found), BOX, ACTIONS, "elu", raw=False)


# --- all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rl_games_best_mean_return_may_be_a_numpy_scalar(kind, tmp_path):
    """Every file of rl_games 1.6.5 has one after the first finished episode."""
    _, found = rl_games()
    path = saved(tmp_path / "a.pth", found | {"last_mean_rewards": kind(-1221.4)})
    without = read(saved(tmp_path / "b.pth", found), BOX, ACTIONS, "elu", raw=False)
    given = observations()
    np.testing.assert_array_equal(
        read(path, BOX, ACTIONS, "elu", raw=False).act(given), without.act(given)
    )


def test_other_numpy_objects_are_refused(tmp_path, capsys):
    found = rl_games()[1] | {"last_mean_rewards": np.random.default_rng(0)}
    assert "which tensors do not need" in evaluated(saved(tmp_path / "a.pth", found), capsys)


LAYOUTS = {
    "rsl_rl": lambda: rsl_rl("5")[1],
    "rl_games": lambda: rl_games()[1],
    "skrl": lambda: skrl()[1],
}


@pytest.mark.parametrize("library", LAYOUTS)
def test_a_missing_activation_function_is_asked_for(library, tmp_path, capsys):
    path = saved(tmp_path / "a.pt", LAYOUTS[library]())
    with pytest.raises(PolicyFileError) as raised:
        read(path, BOX, ACTIONS, None, raw=False)
    assert str(raised.value) == (
        f"{path}: {library} does not store the activation function: --activation NAME is required "
        f"({library}'s usual one is elu)"
    )
    with pytest.raises(PolicyFileError, match=r"--activation selu: allowed: .*elu"):
        read(path, BOX, ACTIONS, "selu", raw=False)


@pytest.mark.parametrize("library", LAYOUTS)
def test_another_tasks_checkpoint_is_one_line(library, tmp_path, capsys):
    path = saved(tmp_path / "a.pt", LAYOUTS[library]())
    assert main(["evaluate", str(path), "--env", "Hopper-v5", "--activation", "elu"]) == 2
    line = capsys.readouterr().err
    assert "maps 3 observations to 2 actions, and the task has 11 and 3" in line
    assert line.count("\n") == 1


LSTM = "rnn.rnn.weight_ih_l0"


@pytest.mark.parametrize(
    ("found", "name"),
    [
        ({"actor_state_dict": named("mlp.", network(nn.ELU)) | {LSTM: torch.ones(4, N)}}, LSTM),
        (rl_games(**{f"a2c_network.{LSTM}": torch.ones(32, 8)})[1], f"a2c_network.{LSTM}"),
        (
            {"policy": skrl()[1]["policy"] | {"features_container.0.weight": torch.ones(N, N)}},
            "features_container.0.weight",
        ),
        (cleanrl_ppo()[1] | {"actor_mean.1.weight": torch.ones(8)}, "actor_mean.1.weight"),
    ],
    ids=["rsl_rl, LSTM", "rl_games, LSTM", "skrl, two networks", "CleanRL, layer norm"],
)
def test_a_policy_with_more_than_an_mlp_is_refused(found, name, tmp_path):
    """The sizes of their linear layers fit each other, so these would play, wrongly."""
    with pytest.raises(PolicyFileError, match=f"not a plain MLP: it has '{name}'; .* as ONNX"):
        read(saved(tmp_path / "a.pt", found), BOX, ACTIONS, "elu", raw=True)


# --- ONNX ----------------------------------------------------------------------------------------


def written(path, nodes, inputs, outputs, constants=(), **kwargs):
    graph = helper.make_graph(
        nodes, "policy",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path, **kwargs)
    return path


def two_files(folder):
    """As PyTorch 2.9 and later writes a policy: its larger weights in a second file."""
    weight, bias = np.arange(6.0).reshape(M, N) / 10, np.array([0.5, -0.5])
    return written(
        folder / "policy.onnx",
        [helper.make_node("Gemm", ["obs", "0.weight", "0.bias"], ["actions"], transB=1)],
        {"obs": [1, N]}, {"actions": [1, M]}, {"0.weight": weight, "0.bias": bias}.items(),
        save_as_external_data=True, location="policy.onnx.data", size_threshold=50,
    )  # fmt: skip


def test_weights_in_a_second_file_are_read(tmp_path):
    path = two_files(tmp_path)
    assert (tmp_path / "policy.onnx.data").stat().st_size == 24
    actions = OnnxPolicy(path, BOX, ACTIONS).act(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(actions, [[1.3, 1.5], [0.7, 0.0]], rtol=1e-6)  # 2.1 is clipped


def test_a_second_file_that_is_missing_or_damaged_is_one_line(tmp_path):
    path, beside = two_files(tmp_path), tmp_path / "policy.onnx.data"
    beside.write_bytes(beside.read_bytes()[:-1])
    with pytest.raises(PolicyFileError, match=r"ends before the weights of policy.onnx do"):
        OnnxPolicy(path, BOX, ACTIONS)
    beside.unlink()
    with pytest.raises(PolicyFileError, match=r"policy.onnx.data: cannot be read: No such file"):
        OnnxPolicy(path, BOX, ACTIONS)


def test_no_other_file_is_read_whatever_the_first_one_says(tmp_path):
    (tmp_path / "private").write_bytes(bytes(100))
    path = two_files(tmp_path)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "private"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(PolicyFileError, match=r"are in 'private'; only .* 'policy.onnx.data'"):
        OnnxPolicy(path, BOX, ACTIONS)


def recurrent(path, n_observations, swapped=False, names=("h_in", "c_in", "h_out", "c_out")):
    """h' = 0.5 h + mean of the observation, c' = c + 0.1; the action is h' + c'.

    Like rsl_rl's LSTM: a batch of 1, and both parts of the memory of one shape [1, 1, 1].
    """
    h_in, c_in, h_out, c_out = names
    given = [c_out, h_out] if swapped else [h_out, c_out]
    return written(
        path,
        [
            helper.make_node("ReduceMean", ["obs"], ["mean"], keepdims=1),
            helper.make_node("Reshape", ["mean", "shape"], ["x"]),
            helper.make_node("Mul", [h_in, "half"], ["kept"]),
            helper.make_node("Add", ["kept", "x"], [h_out]),
            helper.make_node("Add", [c_in, "tenth"], [c_out]),
            helper.make_node("Add", [h_out, c_out], ["sum"]),
            helper.make_node("Squeeze", ["sum", "first"], ["actions"]),
            helper.make_node("Constant", [], ["shape"], value_ints=[1, 1, 1]),
            helper.make_node("Constant", [], ["first"], value_ints=[0]),
        ],
        {"obs": [1, n_observations], h_in: [1, 1, 1], c_in: [1, 1, 1]},
        {"actions": [1, 1], **{name: [1, 1, 1] for name in given}},
        {"half": 0.5, "tenth": 0.1}.items(),
    )


@pytest.mark.parametrize("swapped", [False, True], ids=["in order", "swapped"])
def test_an_lstms_memory_lasts_for_an_episode(swapped, tmp_path):
    """Played by Gallop, and by hand; each episode begins without a memory, and has its own."""
    path = recurrent(tmp_path / "policy.onnx", 3, swapped)
    task = Task("Pendulum-v1", {"max_episode_steps": 20})
    policy = Named(path, task).read()
    ours = [play(policy, task.make, [seed]).returns[0] for seed in (1, 2)]
    np.testing.assert_allclose(play(policy, task.make, [1, 2]).returns, ours, rtol=1e-6)
    for seed, found in zip([1, 2], ours, strict=True):
        env = gym.make("Pendulum-v1", max_episode_steps=20)
        (observation, _), total, h, c, ended = env.reset(seed=seed), 0.0, 0.0, 0.0, False
        while not ended:
            h, c = 0.5 * h + np.float32(observation).mean(), c + 0.1
            observation, reward, _, ended, _ = env.step(np.array([np.clip(h + c, -2, 2)], "f4"))
            total += reward
        assert found == pytest.approx(total, rel=1e-5)


def test_an_ambiguous_memory_is_refused(tmp_path):
    path = written(
        tmp_path / "a.onnx",
        [helper.make_node("Identity", ["memory"], [name]) for name in ("a", "b", "actions")],
        {"obs": ["n", 3], "memory": ["n", 1]},
        {"actions": ["n", 1], "a": ["n", 1], "b": ["n", 1]},
    )
    with pytest.raises(PolicyFileError, match=r"cannot tell which output .* 'memory': a .*, b "):
        OnnxPolicy(path, BOX, spaces.Box(-2.0, 2.0, (1,)))


def test_dict_observations_are_taken_by_their_keys(tmp_path):
    """action = 2 · sum of the angle's sine and cosine − velocity, from inputs in another order."""
    path = written(
        tmp_path / "a.onnx",
        [
            helper.make_node("Constant", [], ["axis"], value_ints=[1]),
            helper.make_node("ReduceSum", ["angle", "axis"], ["sum"], keepdims=1),
            helper.make_node("Add", ["sum", "sum"], ["double"]),
            helper.make_node("Sub", ["double", "velocity"], ["actions"]),
        ],
        {"velocity": ["n", 1], "angle": ["n", 2]},
        {"actions": ["n", 1]},
    )
    parts = {"angle": spaces.Box(-1.0, 1.0, (2,)), "velocity": spaces.Box(-8.0, 8.0, (1,))}
    policy = OnnxPolicy(path, spaces.Dict(parts), spaces.Box(-2.0, 2.0, (1,)))
    batch = {"angle": np.array([[0.1, 0.2], [1.0, 1.0]]), "velocity": np.array([[0.5], [0.0]])}
    np.testing.assert_allclose(policy.act(batch), [[0.1], [2.0]], atol=1e-6)
    more = spaces.Dict(parts | {"goal": spaces.Box(-1.0, 1.0, (4,))})
    with pytest.raises(PolicyFileError, match=r"no input 'goal' of shape \[4\]; it has velocity"):
        OnnxPolicy(path, more, spaces.Box(-2.0, 2.0, (1,)))


def test_rl_games_names_are_warned_about_where_actions_are_not_of_unit_scale(tmp_path, caplog):
    nodes = [helper.make_node("Identity", ["obs"], [name]) for name in ("mu", "log_std", "value")]
    shapes = {name: ["n", N] for name in ("mu", "log_std", "value")}
    path = written(tmp_path / "a.onnx", nodes, {"obs": ["n", N]}, shapes)
    OnnxPolicy(path, BOX, spaces.Box(-1.0, 1.0, (N,)))
    OnnxPolicy(two_files(tmp_path), BOX, ACTIONS)  # other names
    assert not caplog.text
    OnnxPolicy(path, BOX, spaces.Box(-2.0, 2.0, (N,)))
    assert "does not scale actions of ±1" in caplog.text and "RescaleAction" in caplog.text


def test_a_batch_of_another_size_is_refused(tmp_path):
    node = helper.make_node("Identity", ["obs"], ["actions"])
    path = written(tmp_path / "a.onnx", [node], {"obs": [64, N]}, {"actions": [64, N]})
    with pytest.raises(PolicyFileError, match="takes 64 observations at a time"):
        OnnxPolicy(path, BOX, spaces.Box(-1.0, 1.0, (N,)))


def test_a_file_that_cannot_be_run_is_one_line(tmp_path, capsys):
    """Its batch is baked in, though its input says that any size fits."""
    nodes = [helper.make_node("Reshape", ["obs", "shape"], ["actions"]),
             helper.make_node("Constant", [], ["shape"], value_ints=[1, 3])]  # fmt: skip
    path = written(tmp_path / "a.onnx", nodes, {"obs": ["n", 11]}, {"actions": ["n", 3]})
    assert main(["evaluate", str(path), "--env", "Hopper-v5"]) == 2
    assert "a.onnx: cannot be run: " in capsys.readouterr().err


def test_another_file_is_no_onnx(tmp_path, capsys):
    for content in (b"not a model", b"location location", pickle.dumps({"location": 1})):
        (tmp_path / "a.onnx").write_bytes(content)
        assert main(["evaluate", str(tmp_path / "a.onnx"), "--env", "Pendulum-v1"]) == 2
        line = capsys.readouterr().err
        assert "a.onnx: not a policy in ONNX format" in line and line.count("\n") == 1


# --- pickles -------------------------------------------------------------------------------------


class Algorithm(nn.Module):
    """Stands for tianshou's, which users save whole."""


def evaluated(path, capsys):
    assert main(["evaluate", str(path), "--env", "Pendulum-v1"]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_tianshous_state_dict_is_named(tmp_path, capsys):
    state = {"policy.actor.preprocess.model.model.0.weight": torch.ones(32, 3)}
    line = evaluated(saved(tmp_path / "policy.pth", state), capsys)
    assert "a policy of tianshou: export it as ONNX" in line and "policy.map_action" in line


def test_a_pickled_object_is_named_and_not_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Algorithm, "__setstate__", lambda *_: pytest.fail("run"), raising=False)
    line = evaluated(saved(tmp_path / "algorithm.pth", Algorithm()), capsys)
    assert "cannot be read safely: it names" in line and "Algorithm" in line


def test_the_libraries_named_are_those_that_are_read():
    """The suffixes that these libraries give."""
    assert torch_checkpoint.SUFFIXES == (".pt", ".pth", ".cleanrl_model")


def test_zips_of_sbx_are_named(tmp_path, capsys):
    """The layout of SBX 0.28.0: the weights are in the member `data`, as a pickle."""
    data = {"policy_class": {":type:": "<class 'abc.ABCMeta'>", "__module__": "sbx.sac.policies"}}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data", json.dumps(data, indent=4))
        archive.writestr("pytorch_variables.pth", b"")
    assert "a policy of SBX" in evaluated(tmp_path / "a.zip", capsys)


def test_checkpoints_of_rllib_and_pickles_are_named(tmp_path, capsys):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "rllib_checkpoint.json").write_text('{"type": "Algorithm", "version": "2.1"}')
    (folder / "module_state.pkl").write_bytes(pickle.dumps({"pi.weight": np.ones((1, 3))}))
    assert "checkpoint: a checkpoint of RLlib" in evaluated(folder, capsys)
    line = evaluated(folder / "module_state.pkl", capsys)
    assert "a pickle, which runs code when it is opened" in line
