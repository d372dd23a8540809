"""The native learner compared with plain SB3: its files, its choice, its settings."""

from __future__ import annotations

import io
import zipfile
from functools import partial

import numpy as np
import pytest
import torch
from conftest import tiny
from stable_baselines3 import PPO, SAC, TD3

from gallop import machine
from gallop.environments.make import evaluation_env, try_out
from gallop.errors import DivergedError, ExperimentError
from gallop.learners.choose import choose_learner
from gallop.policies import kernels, sb3_zip

SB3 = {"sac": SAC, "td3": TD3, "ppo": PPO}
VARIANTS = {
    "sac": ("sac", {}),
    "sac, tanh, three critics": (
        "sac",
        {"policy_kwargs": {"net_arch": [24, 40], "activation_fn": "tanh", "n_critics": 3}},
    ),
    "sac, fixed entropy coefficient": ("sac", {"ent_coef": 0.2}),
    "td3": ("td3", {"policy_kwargs": {"net_arch": {"pi": [33], "qf": [20, 20]}}}),
    "ppo": ("ppo", {}),
    "ppo, choices": ("ppo", {}),
}
variants = pytest.mark.parametrize("variant", VARIANTS)


def native(variant, **settings):
    algo, hyperparameters = VARIANTS[variant]
    env = {"env": "CartPole-v1"} if variant == "ppo, choices" else {}
    return tiny(algo, hyperparameters, learner="native", **env, **settings)


def observations(experiment, n=50):
    env = evaluation_env(experiment)
    shape = env.observation_space.shape
    env.close()
    return np.random.default_rng(0).standard_normal((n, *shape)).astype(np.float32)


@variants
def test_plain_sb3_opens_the_zip_and_acts_the_same(variant, trainers, tmp_path):
    trainer = trainers(native(variant))
    next(trainer.segments())
    trainer.learner.save_policy(tmp_path / "policy.zip")
    model = SB3[trainer.experiment.algo].load(tmp_path / "policy.zip")
    x = observations(trainer.experiment)
    theirs, _ = model.predict(x, deterministic=True)
    np.testing.assert_allclose(trainer.learner.policy.act(x), theirs, atol=2e-6)
    assert model.num_timesteps == 120
    assert model.batch_size == trainer.experiment.hyperparameters.batch_size
    if trainer.experiment.algo != "ppo":
        assert model.buffer_size == trainer.experiment.hyperparameters.buffer_size


@variants
def test_plain_sb3_continues_training_from_the_zip(variant, trainers, tmp_path):
    trainer = trainers(native(variant))
    next(trainer.segments())
    learner = trainer.learner
    learner.save_policy(tmp_path / "policy.zip")
    algo = trainer.experiment.algo
    model = SB3[algo].load(tmp_path / "policy.zip", env=trainer.environments)
    moments = learner._moments("first_moment")
    modules = [model.policy] if algo == "ppo" else [model.policy.actor, model.policy.critic]
    prefixes = [""] if algo == "ppo" else ["actor.", "critic."]
    for module, prefix in zip(modules, prefixes, strict=True):
        for name, parameter in module.named_parameters():
            state = module.optimizer.state[parameter]
            np.testing.assert_array_equal(state["exp_avg"], moments[prefix + name])
            assert int(state["step"]) == learner._n_optimizer_steps(prefix + name) > 0
    before = {n: t.clone() for n, t in model.policy.state_dict().items()}
    if algo == "sac" and learner._learns_entropy:
        assert float(model.log_ent_coef.detach()) == learner.entropy[0] != 0
        (state,) = model.ent_coef_optimizer.state.values()
        assert float(state["exp_avg"]) == learner.entropy[1] != 0
    model.learning_rate = 1e-3  # the schedule has ended at this run's horizon
    model._setup_lr_schedule()
    model.learn(120, reset_num_timesteps=False)
    assert model.num_timesteps == 240
    after = model.policy.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


@variants
def test_an_sb3_zip_read_into_the_native_learner_is_the_same_learner(variant, trainers, tmp_path):
    theirs = trainers(native(variant).model_copy(update={"learner": "sb3"}))
    next(theirs.segments())
    theirs.learner.save_policy(tmp_path / "policy.zip")
    model = theirs.learner._model
    ours = trainers(native(variant)).learner
    ours.read_policy(tmp_path / "policy.zip")
    tensors = ours._tensors()
    for name, tensor in model.policy.state_dict().items():
        np.testing.assert_array_equal(tensors[name], tensor.numpy())
    moments = ours._moments("second_moment")
    for prefix, module in _with_optimizers(model.policy, theirs.experiment.algo):
        for name, parameter in module.named_parameters():
            state = module.optimizer.state[parameter]
            np.testing.assert_array_equal(moments[prefix + name], state["exp_avg_sq"].numpy())
            assert ours._n_optimizer_steps(prefix + name) == int(state["step"])
    assert ours.n_gradient_steps == theirs.learner.n_gradient_steps
    x = observations(theirs.experiment)
    np.testing.assert_allclose(
        ours.policy.act(x), model.predict(x, deterministic=True)[0], atol=2e-6
    )
    if variant == "sac":
        assert ours.entropy[0] == float(model.log_ent_coef.detach()) != 0
        (state,) = model.ent_coef_optimizer.state.values()
        assert ours.entropy[1] == float(state["exp_avg"]) != 0
    ours.learn(theirs.environments, 3, 120, 360, lambda timestep: None)


def _with_optimizers(policy, algo):
    if algo == "ppo":
        return [("", policy)]
    return [("actor.", policy.actor), ("critic.", policy.critic)]


def test_a_zip_with_other_networks_or_a_damaged_optimizer_is_refused(trainers, tmp_path):
    other = trainers(tiny("sac", {"policy_kwargs": {"net_arch": [17]}}))
    other.learner.save_policy(tmp_path / "other.zip")
    ours = trainers(native("sac")).learner
    with pytest.raises(sb3_zip.PolicyFileError, match="networks do not fit the experiment"):
        ours.read_policy(tmp_path / "other.zip")
    ours.save_policy(tmp_path / "good.zip")
    content = io.BytesIO()
    torch.save({"state": {0: {"step": 1, "exp_avg": "text"}}}, content)
    with (
        zipfile.ZipFile(tmp_path / "good.zip") as good,
        zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad,
    ):
        for name in good.namelist():
            spoilt = name == "critic.optimizer.pth"
            bad.writestr(name, content.getvalue() if spoilt else good.read(name))
    with pytest.raises(sb3_zip.PolicyFileError, match="is not a state of Adam"):
        ours.read_policy(tmp_path / "bad.zip")


@pytest.mark.parametrize(
    ("algo", "settings", "reason"),
    [
        ("sac", {"hyperparameters": {"use_sde": True}}, "does not support gSDE"),
        (
            "td3",
            {"hyperparameters": {"noise_type": "ornstein-uhlenbeck"}},
            "only normal noise",
        ),
        (
            "sac",
            {"hyperparameters": {"policy_kwargs": {"activation_fn": "elu"}}},
            "the activation function elu (only relu and tanh)",
        ),
        (
            "sac",
            {"hyperparameters": {"policy_kwargs": {"optimizer_kwargs": {"amsgrad": True}}}},
            "Adam's argument amsgrad",
        ),
        ("sac", {"env": "gallop_dict_task:DictPendulum-v0"}, "does not support Dict observations"),
    ],
)
def test_an_unsupported_experiment_is_trained_by_sb3_with_a_reason(algo, settings, reason):
    experiment = tiny(algo, **settings)
    spaces = try_out(experiment)[:2]
    choice = choose_learner(experiment, *spaces)
    assert choice.name == "sb3"
    assert reason in choice.reason
    with pytest.raises(ExperimentError, match="native: the native learner does not support"):
        choose_learner(experiment.model_copy(update={"learner": "native"}), *spaces)


def test_auto_chooses_the_native_learner_and_sb3_can_be_requested():
    experiment = tiny("sac")
    spaces = try_out(experiment)[:2]
    choice = choose_learner(experiment, *spaces)
    assert (choice.name, choice.n_threads) == ("native", 1)
    assert choice.instruction_set == machine.instruction_set()
    asked = choose_learner(experiment.model_copy(update={"learner": "sb3"}), *spaces)
    assert asked == ("sb3", "requested", 1, "")


@pytest.mark.parametrize("kind", ["observation_nan", "reward_inf"])
def test_a_task_that_returns_nan_causes_an_error_and_not_a_crash(kind, trainers):
    task = "gallop_misbehaving_task:Misbehaving-v0"
    trainer = trainers(tiny("sac", env=task, env_kwargs={"kind": kind}))
    with pytest.raises(
        DivergedError, match=r"segment 0, after timestep 29: returned (NaN|infinity)"
    ):
        trainer.to_the_end()


def test_more_gradient_steps_than_one_block_of_noise(trainers):
    trainer = trainers(tiny("sac", {"utd": 70, "target_update_interval": 3}))
    learner = trainer.learner
    learner.learn(trainer.environments, 1, 36, 360, lambda timestep: None)
    assert learner.n_gradient_steps == 70 * (36 - 31)
    with torch.no_grad():
        assert np.isfinite(learner.entropy).all()


def test_an_infinite_weight_behind_a_unit_that_is_always_zero_is_seen(trainers, monkeypatch):
    """The forward pass leaves out 0 times infinity. The backward pass does not."""
    monkeypatch.setattr(kernels, "engine", partial(kernels.engine, sparse_below=2.0))
    hyperparameters = {"policy_kwargs": {"net_arch": [64, 64]}}
    trainer = trainers(tiny("sac", hyperparameters, learner="native"))
    learner = trainer.learner
    critic = learner.networks["critic0"]
    layers = critic.read(critic.parameters)
    layers[0][1][5] = -1e6  # the bias of unit 5
    layers[1][0][:, 5] = np.inf  # the weights that it feeds
    critic.write(critic.parameters, layers)
    inputs = layers[0][0].shape[1]
    assert np.isfinite(critic.forward(np.ones((3, inputs), np.float32))).all()
    with pytest.raises(DivergedError):
        next(trainer.segments())
