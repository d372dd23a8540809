"""The kernels and SB3's own `train`, both compared with exact arithmetic.

The reference in float64, SB3 in float32 and the kernels get the same weights, batches and noise.
The kernels may be at most three times as far from the reference as SB3 is.
"""

from __future__ import annotations

import contextlib
import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.logger import Logger

from gallop import machine
from gallop.environments.vectorised import training_environments
from gallop.learners.choose import choose_learner, make_learner
from gallop.learners.stable_baselines import make_model
from parity import reference

ROWS = 600  # in the replay buffer or rollout
FACTOR = 3


class Arms:
    """The same initial weights three times: kernels, SB3, reference."""

    def __init__(self, algo, hyperparameters, env_kwargs=None, isa=None, n_threads=1, run=None):
        self.experiment = tiny(
            algo,
            {"learning_rate": 1e-3, **hyperparameters},
            env="gallop_shapes_task:Shapes-v0",
            env_kwargs={"max_episode_steps": 2, **(env_kwargs or {})},
            n_threads=n_threads,
            **(run or {}),
        )
        self.settings = self.experiment.hyperparameters
        self.entropy = None
        self.environments = training_environments(self.experiment)
        with instruction_set(isa):
            spaces = self.environments.observation_space, self.environments.action_space
            choice = choose_learner(self.experiment, *spaces)
            self.native = make_learner(self.experiment, choice, self.environments, 7)
        self.sb3 = make_model(self.experiment, self.environments, 7)
        self.sb3.set_logger(Logger(folder=None, output_formats=[]))
        self.exact = copy.deepcopy(self.sb3.policy).double()
        for module in (self.exact, getattr(self.exact, "actor", None), self.exact_critic()):
            if getattr(module, "optimizer", None) is not None:
                names = list(module.parameters())
                options = {
                    k: v for k, v in module.optimizer.defaults.items() if k in ("betas", "eps")
                }
                rate = self.settings.learning_rate
                module.optimizer = torch.optim.Adam(names, lr=rate, **options)
        for module in self.exact.modules():  # SB3's rounds observations to float32
            if hasattr(module, "extract_features"):
                module.extract_features = lambda observations, extractor=None: observations
        self.environments.close()

    def exact_critic(self):
        return getattr(self.exact, "critic", None)

    def distances(self):
        """Network -> (the kernels' distance from exact arithmetic, SB3's, the network's size)."""
        exact = {n: t.detach().numpy() for n, t in self.exact.state_dict().items()}
        theirs = {n: t.detach().numpy() for n, t in self.sb3.policy.state_dict().items()}
        ours = self.native._tensors()
        assert ours.keys() == exact.keys()
        found = {"log_ent_coef": self.entropy} if self.entropy else {}
        for network in sorted({_network(name) for name in exact}):
            names = [name for name in exact if _network(name) == network]
            found[network] = (
                _norm([ours[n] - exact[n] for n in names]),
                _norm([theirs[n] - exact[n] for n in names]),
                _norm([exact[n] for n in names]),
            )
        return found


def hold(*runs):
    """Compare the distances of each network; of several runs, their medians."""
    floor = 2e-7  # relative to a network's norm: one or two units in float32's last place
    distances = [arms.distances() for arms in runs]
    for network in distances[0]:
        ours, theirs, size = np.median([found[network] for found in distances], axis=0)
        assert theirs < 1e-2 * size, f"{network}: SB3 itself is far from the reference"
        said = f"{network}: {ours:.1e}, SB3 {theirs:.1e} of {size:.1e}"
        assert ours <= FACTOR * max(theirs, floor * size), said


def _network(name):
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0].startswith(("critic", "mlp")) else parts[0]


def _norm(arrays):
    return float(np.sqrt(sum(float((np.float64(a) ** 2).sum()) for a in arrays)))


@contextlib.contextmanager
def instruction_set(name):
    """Engines that are created in this block use this instruction set."""
    before = machine.instruction_set
    try:
        if name is not None:
            machine.instruction_set = lambda: name
        yield
    finally:
        machine.instruction_set = before


def transitions(n_observations, n_actions, seed=0):
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    return {
        "observations": normal(ROWS, n_observations),
        "next_observations": normal(ROWS, n_observations),
        "actions": np.tanh(normal(ROWS, n_actions)),
        "rewards": normal(ROWS),
        "ends": rng.random(ROWS) < 0.1,
    }


def off_policy(
    algo,
    n_steps,
    batch,
    env_kwargs,
    isa=None,
    n_threads=1,
    seed=0,
    **hyperparameters,
):
    """The three learners after `n_steps` gradient steps."""
    settings = {"batch_size": batch, "buffer_size": ROWS, **hyperparameters}
    if algo == "td3":
        settings = {"target_policy_noise": 0.25, **settings}
    arms = Arms(algo, settings, env_kwargs, isa, n_threads)
    n_actions = arms.native._n_actions
    data = transitions(env_kwargs["n_observations"], n_actions, seed)
    for name, array in data.items():
        target = {"ends": "dones"}.get(name, name)
        stored = getattr(arms.sb3.replay_buffer, target)
        stored[:] = array.reshape(stored.shape)
    arms.sb3.replay_buffer.full = True
    arms.native.replay.write(0, {name: array[:, None] for name, array in data.items()})

    # SB3 uses the global generators; the others get the same random numbers in the same order.
    np.random.seed(1)
    torch.manual_seed(1)
    arms.sb3.train(gradient_steps=n_steps, batch_size=batch)
    np.random.seed(1)
    torch.manual_seed(1)
    indices, noise = [], []
    for _ in range(n_steps):
        indices.append(np.random.randint(0, ROWS, size=batch))
        np.random.randint(0, high=1, size=batch)  # of environments
        if algo == "sac":
            shape = (batch, n_actions)
            draws = [torch.normal(torch.zeros(shape), torch.ones(shape)) for _ in range(2)]
            noise.append(torch.stack(draws))
        else:
            noise.append(torch.empty(batch, n_actions).normal_(0, 0.25) / 0.25)
    batches = [
        SimpleNamespace(
            **{
                name: torch.from_numpy(data[name][rows]).double() for name in data if name != "ends"
            },
            dones=torch.from_numpy(data["ends"][rows]).double(),
        )
        for rows in indices
    ]
    exact_noise = [n.double() for n in noise]
    if algo == "sac":
        log_ent_coef = None
        if arms.sb3.ent_coef_optimizer is not None:
            start = float(arms.native.entropy[0])
            log_ent_coef = torch.tensor([start], dtype=torch.float64, requires_grad=True)
        reference.sac(
            arms.exact,
            log_ent_coef,
            arms.settings,
            batches,
            exact_noise,
            getattr(arms.sb3, "target_entropy", 0.0),
        )
    else:
        reference.td3(arms.exact, arms.settings, batches, exact_noise)
    arms.native._learning_rate = arms.settings.learning_rate
    arms.losses = arms.native._train(np.array(indices), torch.stack(noise).numpy())
    if algo == "sac" and log_ent_coef is not None:
        exact = float(log_ent_coef.detach())
        theirs = abs(float(arms.sb3.log_ent_coef.detach()) - exact)
        arms.entropy = (abs(float(arms.native.entropy[0]) - exact), theirs, 1.0)
    return arms


def rollout(arms, n, seed=0):
    """A rollout whose log-probabilities are close to the policy's, as in PPO."""
    rng = np.random.default_rng(seed)
    policy, space = arms.sb3.policy, arms.sb3.action_space
    observations = rng.standard_normal((n, *policy.observation_space.shape)).astype(np.float32)
    with torch.no_grad():
        torch.manual_seed(seed)
        actions, values, log_probs = policy(torch.from_numpy(observations))
    actions = actions.numpy().reshape(n, -1).astype(np.float32)
    assert actions.shape[1] == (1 if hasattr(space, "n") else space.shape[0])
    return {
        "observations": observations,
        "actions": actions,
        "values": values.numpy().ravel() + 0.3 * rng.standard_normal(n).astype(np.float32),
        "log_probs": log_probs.numpy() + 0.1 * rng.standard_normal(n).astype(np.float32),
        "advantages": rng.standard_normal(n).astype(np.float32),
        "returns": rng.standard_normal(n).astype(np.float32),
    }


def on_policy(n_batches, batch, env_kwargs, isa=None, n_threads=1, seed=0, **hyperparameters):
    n = n_batches * batch
    arms = Arms(
        "ppo",
        {"n_steps": n, "batch_size": batch, "n_epochs": 1, **hyperparameters},
        env_kwargs,
        isa,
        n_threads,
        {"total_timesteps": n, "segment": n, "evaluation": {"interval": n}},
    )
    data = {name: array.astype(np.float32) for name, array in rollout(arms, n, seed).items()}
    buffer = arms.sb3.rollout_buffer
    for name, array in data.items():
        stored = getattr(buffer, name)
        stored[:] = array.reshape(stored.shape)
    buffer.full = True
    np.random.seed(1)
    arms.sb3.train()
    np.random.seed(1)
    order = np.random.permutation(n)
    batches = [
        SimpleNamespace(
            **{name: torch.from_numpy(array[rows]).double() for name, array in data.items()}
        )
        for rows in order.reshape(n_batches, batch)
    ]
    reference.ppo(arms.exact, arms.settings, batches)
    settings = arms.settings
    arms.losses, n_learnt = arms.native._kernel.epoch(
        indices=order,
        **data,
        learning_rate=settings.learning_rate,
        n_done=0,
        clip_range=settings.clip_range,
        clip_range_value=settings.clip_range_vf or 0.0,
    )
    assert n_learnt == n_batches
    return arms


def bits(arms):
    return {name: value.tobytes() for name, value in arms.native._tensors().items()}


SHAPE = {"n_observations": 17, "n_actions": 6}
ARCHITECTURES = {
    "256 256": {"net_arch": [256, 256]},
    "400 300": {"net_arch": [400, 300]},
    "64 tanh": {"net_arch": [64], "activation_fn": "tanh"},
    "apart": {"net_arch": {"pi": [40], "qf": [33, 70, 5]}},
    "none": {"net_arch": []},
    "1 critic": {"net_arch": [32, 32], "n_critics": 1},
    "3 critics": {"net_arch": [32, 32], "n_critics": 3},
}


@pytest.mark.parametrize("n_steps", [1, 10])
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_gradient_steps_are_as_close_to_exact_arithmetic_as_sb3s(algo, name, n_steps):
    hold(off_policy(algo, n_steps, 64, SHAPE, policy_kwargs=ARCHITECTURES[name]))


@pytest.mark.parametrize("batch", [1, 2, 37, 128, 512])
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_any_batch_size(algo, batch):
    hold(off_policy(algo, 4, batch, SHAPE, policy_kwargs={"net_arch": [64, 48]}))


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"ent_coef": 0.2},
        {"ent_coef": 0},
        {"ent_coef": "auto_0.1", "target_entropy": -2.5},
        {"target_update_interval": 3},
        {"tau": 1.0, "gamma": 0.5},
        {"policy_kwargs": {"net_arch": [32], "optimizer_kwargs": {"eps": 1e-3}}},
        {"policy_kwargs": {"net_arch": [32], "optimizer_kwargs": {"betas": [0.8, 0.99]}}},
    ],
)
def test_settings_of_sac(hyperparameters):
    hold(off_policy("sac", 5, 16, SHAPE, **hyperparameters))


@pytest.mark.parametrize(
    "hyperparameters", [{"policy_delay": 3}, {"target_noise_clip": 0.1}, {"policy_delay": 1}]
)
def test_settings_of_td3(hyperparameters):
    hold(off_policy("td3", 6, 16, SHAPE, **hyperparameters))


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {},
        {"clip_range_vf": 0.1},
        {"normalize_advantage": False, "vf_coef": 0.1},
        {"ent_coef": 0.05, "max_grad_norm": 0.01},
        {"max_grad_norm": 100.0},
        {"policy_kwargs": {"net_arch": {"pi": [40, 30], "vf": [70]}, "activation_fn": "relu"}},
        {"policy_kwargs": {"net_arch": []}},
        {"policy_kwargs": {"log_std_init": -1.0, "ortho_init": False}},
    ],
)
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize(("n_batches", "batch"), [(1, 64), (10, 37)])
def test_minibatches_of_ppo(hyperparameters, discrete, n_batches, batch):
    hyperparameters = {"policy_kwargs": {}, **hyperparameters}
    hold(on_policy(n_batches, batch, {**SHAPE, "discrete": discrete}, **hyperparameters))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    algo=st.sampled_from(["sac", "td3", "ppo"]),
    n_observations=st.integers(1, 70),
    n_actions=st.integers(1, 20),
    pi=st.lists(st.integers(1, 90), max_size=3),
    critic=st.lists(st.integers(1, 90), max_size=3),
    tanh=st.booleans(),
    batch=st.integers(2, 70),
)
def test_any_shape(algo, n_observations, n_actions, pi, critic, tanh, batch):
    shape = {"n_observations": n_observations, "n_actions": n_actions}
    networks = {
        "net_arch": {"pi": pi, "vf" if algo == "ppo" else "qf": critic},
        "activation_fn": "tanh" if tanh else "relu",
    }
    # For a nearly dead unit Adam divides by nearly zero, and one such unit dominates the distance
    # of a small network. Hence the median over three samples of the data.
    if algo == "ppo":
        hold(*(on_policy(3, batch, shape, policy_kwargs=networks, seed=s) for s in range(3)))
    else:
        hold(*(off_policy(algo, 3, batch, shape, policy_kwargs=networks, seed=s) for s in range(3)))


@pytest.mark.parametrize("algo", ["sac", "td3", "ppo"])
@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_and_two_threads(algo, isa):
    from gallop import _kernels

    if isa not in _kernels.instruction_sets():
        pytest.skip(f"this processor has no {isa}")
    networks = {"policy_kwargs": {"net_arch": [256, 100]}}

    def run(n_threads, seed):
        settings = {"isa": isa, "n_threads": n_threads, "seed": seed, **networks}
        if algo == "ppo":
            return on_policy(5, 37, SHAPE, **settings)
        return off_policy(algo, 5, 37, SHAPE, **settings)

    # Three samples, as in test_any_shape: on some processors a single weight, whose first gradient
    # is nearly zero, is 99.9 % of the distance of a whole network.
    runs = [run(1, seed) for seed in range(3)]
    one, two = runs[0], run(2, 0)
    assert one.native._engine.instruction_set == isa
    hold(*runs)
    assert two.native._engine.n_threads == 2
    assert bits(one) == bits(two)


@pytest.mark.parametrize("batch", [37, 128])
@pytest.mark.parametrize("algo", ["sac", "td3"])
def test_the_first_gradient_is_exact_to_float32(algo, batch):
    """Relative distance of the first gradient from exact arithmetic. After more steps, Adam, which
    divides by the size of the gradient, would hide an error."""
    settings = {"policy_kwargs": {"net_arch": [256, 100, 70]}}
    if algo == "td3":
        settings["policy_delay"] = 1
    arms = off_policy(algo, 1, batch, SHAPE, **settings)
    ours = arms.native._moments("first_moment")
    for prefix, module in (("actor", arms.exact.actor), ("critic", arms.exact.critic)):
        exact = {
            f"{prefix}.{name}": module.optimizer.state[parameter]["exp_avg"].numpy()
            for name, parameter in module.named_parameters()
        }
        distance = _norm([ours[name] - exact[name] for name in exact])
        share = distance / _norm(list(exact.values()))
        assert 0 < share < 2e-6, prefix


def test_the_comparison_detects_a_wrong_step():
    arms = off_policy("sac", 1, 64, SHAPE)
    hold(arms)
    arms.native.networks["actor"].parameters[:] *= 1 + 1e-5
    with pytest.raises(AssertionError, match="actor"):
        hold(arms)
