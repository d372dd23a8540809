"""Search spaces: the Zoo's names, what Optuna draws, defaults moved inside, narrowing, mistakes."""

from __future__ import annotations

import math
from inspect import signature
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gallop.algorithms.spec import imported
from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError
from gallop.experiments.yaml_file import from_dict
from gallop.tuning import check_space, names, space
from gallop.tuning.parameter import Parameter
from gallop.tuning.search import load

CONFIGS = Path(__file__).parents[2] / "configs"

ZOO_PPO_NETWORKS = {"tiny": [64], "small": [64, 64], "medium": [256, 256]}
ZOO_NETWORKS = {
    "small": [64, 64],
    "medium": [256, 256],
    "big": [400, 300],
    "large": [256, 256, 256],
    "verybig": [512, 512, 512],
}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def parameters(**parts):
    return {name: Parameter.model_validate(part) for name, part in parts.items()}


def drawn(algo, ranges, n=60):
    """The values of n trials of a study that draws at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask(), algo, ranges) for _ in range(n)]


# --- what names mean -----------------------------------------------------------------------------


def zoo_on_policy(sampled):
    """What rl_zoo3 2.9's convert_onpolicy_params makes of its names (NetArch for both networks)."""
    made = dict(sampled)
    made["gamma"] = 1 - made.pop("one_minus_gamma")
    made["gae_lambda"] = 1 - made.pop("one_minus_gae_lambda")
    for name in ("batch_size", "n_steps"):
        made[name] = 2 ** made.pop(f"{name}_pow")
    net_arch, activation_fn = made.pop("net_arch"), made.pop("activation_fn")
    layers = ZOO_PPO_NETWORKS[net_arch]
    return {**made, "policy_kwargs": {"net_arch": layers, "activation_fn": activation_fn}}


def zoo_off_policy(sampled):
    """What rl_zoo3 2.9's convert_offpolicy_params makes of its names."""
    made = dict(sampled)
    made["gamma"] = 1 - made.pop("one_minus_gamma")
    made["batch_size"] = 2 ** made.pop("batch_size_pow")
    subsample = made.pop("subsample_steps")
    made["gradient_steps"] = max(made["train_freq"] // subsample, 1)
    layers = ZOO_NETWORKS[made.pop("net_arch")]
    return {**made, "policy_kwargs": {"net_arch": layers}}


@settings(max_examples=50, deadline=None)
@given(
    gamma=st.floats(1e-4, 0.03),
    gae_lambda=st.floats(1e-4, 0.1),
    batch_size=st.integers(2, 10),
    n_steps=st.integers(5, 12),
    net_arch=st.sampled_from(sorted(ZOO_PPO_NETWORKS)),
    activation_fn=st.sampled_from(["tanh", "relu", "elu", "leaky_relu"]),
)
def test_ppos_names_mean_what_they_mean_in_the_zoo(
    gamma, gae_lambda, batch_size, n_steps, net_arch, activation_fn
):
    sampled = {
        "one_minus_gamma": gamma,
        "one_minus_gae_lambda": gae_lambda,
        "batch_size_pow": batch_size,
        "n_steps_pow": n_steps,
        "net_arch": net_arch,
        "activation_fn": activation_fn,
        "learning_rate": 1e-3,
        "clip_range": 0.3,
    }
    found, wanted = names.hyperparameters("ppo", sampled), zoo_on_policy(sampled)
    for name in ("gamma", "gae_lambda"):
        assert found.pop(name) == pytest.approx(wanted.pop(name), abs=1e-12)
    assert found == wanted


@settings(max_examples=50, deadline=None)
@given(
    algo=st.sampled_from(["sac", "td3"]),
    batch_size=st.integers(4, 11),
    net_arch=st.sampled_from(sorted(ZOO_NETWORKS)),
    train_freq=st.integers(1, 512),
    subsample=st.integers(1, 16),
)
def test_sacs_and_td3s_names_mean_what_they_mean_in_the_zoo(
    algo, batch_size, net_arch, train_freq, subsample
):
    sampled = {
        "one_minus_gamma": 0.005,
        "batch_size_pow": batch_size,
        "net_arch": net_arch,
        "train_freq": train_freq,
        "subsample_steps": subsample,
    }
    assert names.hyperparameters(algo, sampled) == zoo_off_policy(sampled)


def test_the_zoos_linear_schedule_begins_at_the_learning_rate():
    linear = {"lr_schedule": "linear", "learning_rate": 1e-3}
    assert names.hyperparameters("sac", linear) == {"learning_rate": "lin_0.001"}
    constant = {"learning_rate": 1e-3, "lr_schedule": "constant"}
    assert names.hyperparameters("sac", constant) == {"learning_rate": 1e-3}


def test_no_noise_is_none_of_the_zoo():
    assert names.hyperparameters("td3", {"noise_type": None}) == {"noise_type": "none"}


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_word_for_a_network_is_one_that_trains(algo):
    for word, layers in ALGORITHMS[algo].network_words.items():
        hyperparameters = names.hyperparameters(algo, {"net_arch": word})
        experiment = from_dict(
            {"algo": algo, "env": "Pendulum-v1", "total_timesteps": 40_960,
             "milestones": [100], "hyperparameters": hyperparameters}
        )  # fmt: skip
        found = experiment.hyperparameters.model_dump(exclude_none=True)["policy_kwargs"]
        assert found["net_arch"] == layers


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_the_search_of_an_algorithm_begins_with_what_sb3_itself_takes(algo):
    search = load(CONFIGS / "searches" / f"{algo}.yaml", {"experiment.env": "Pendulum-v1"})
    values, moved = space.defaults(algo, search.rounds[0].space, {})
    moved_names = {names.target(line.split()[0]).rpartition(".")[2] for line in moved}
    spec = ALGORITHMS[algo]
    policy = signature(imported(spec.networks.policy_classes[0])).parameters
    parameters = {**signature(imported(spec.sb3_class)).parameters, **policy}
    sb3 = {name: parameter.default for name, parameter in parameters.items()}
    sb3 |= {"net_arch": spec.default_net_arch, "noise_type": "normal", "noise_std": 0.1}
    if "activation_fn" in sb3:
        sb3["activation_fn"] = sb3["activation_fn"].__name__.lower()
    found = names.hyperparameters(algo, values)
    found |= found.pop("policy_kwargs")
    for name, value in found.items():
        assert value == sb3[name] or name in moved_names, name
    assert {"learning_rate", "gamma", "net_arch"} <= found.keys()


def test_one_minus_gamma_gives_the_decimal_that_a_person_would_write():
    assert names.hyperparameters("sac", {"one_minus_gamma": 0.01})["gamma"] == 0.99


# --- what Optuna draws ---------------------------------------------------------------------------


def test_values_lie_inside_their_ranges_and_logarithms_are_even():
    ranges = parameters(
        learning_rate={"low": 1e-5, "high": 1e-1, "log": True},
        gamma={"low": 0.9, "high": 0.999},
        tau={"low": 0.0, "high": 0.5, "step": 0.25},
        batch_size=[64, 128],
    )
    trials = drawn("sac", ranges, 200)
    rates = [trial["learning_rate"] for trial in trials]
    assert all(1e-5 <= rate <= 1e-1 for rate in rates)
    # Even in the logarithm: half of them lie below the geometric mean, 1e-3.
    assert 70 <= sum(rate < 1e-3 for rate in rates) <= 130
    gammas = [trial["gamma"] for trial in trials]
    assert all(0.9 <= gamma <= 0.999 for gamma in gammas)
    assert 70 <= sum(gamma < 0.9495 for gamma in gammas) <= 130
    assert {trial["tau"] for trial in trials} == {0.0, 0.25, 0.5}
    assert {trial["batch_size"] for trial in trials} == {64, 128}


@pytest.mark.parametrize(
    ("algo", "name"),
    [
        ("sac", "batch_size"),
        ("sac", "batch_size_pow"),
        ("sac", "gradient_steps"),
        ("sac", "buffer_size"),
        ("sac", "learning_starts"),
        ("sac", "subsample_steps"),
        ("td3", "policy_delay"),
        ("td3", "n_critics"),
        ("ppo", "n_epochs"),
        ("ppo", "n_steps_pow"),
    ],
)
def test_whole_numbers_are_drawn_as_whole_numbers(algo, name):
    values = [trial[name] for trial in drawn(algo, parameters(**{name: {"low": 2, "high": 5}}))]
    assert set(values) == {2, 3, 4, 5}
    assert all(type(value) is int for value in values)


@pytest.mark.parametrize("name", ["gamma", "learning_rate", "utd", "ent_coef", "one_minus_gamma"])
def test_real_numbers_are_not_rounded(name):
    values = [trial[name] for trial in drawn("sac", parameters(**{name: {"low": 0, "high": 1}}))]
    assert len(set(values)) == len(values)


def test_a_conditional_parameter_exists_only_where_its_condition_holds():
    ranges = parameters(
        noise_type=["none", "normal", "ornstein-uhlenbeck"],
        noise_std={"low": 0.1, "high": 0.2, "when": {"noise_type": ["normal"]}},
        target_noise_clip={"low": 0.3, "high": 0.4, "when": {"noise_type": "none"}},
    )
    trials = drawn("td3", ranges)
    assert {trial["noise_type"] for trial in trials} == {"none", "normal", "ornstein-uhlenbeck"}
    for trial in trials:
        assert ("noise_std" in trial) == (trial["noise_type"] == "normal")
        assert ("target_noise_clip" in trial) == (trial["noise_type"] == "none")


def test_what_hangs_on_a_parameter_that_does_not_exist_does_not_exist_either():
    ranges = parameters(
        use_sde=[True, False],
        use_expln={"choices": [True, False], "when": {"use_sde": True}},
        clip_mean={"low": 1, "high": 2, "when": {"use_expln": True}},
    )
    for trial in drawn("sac", ranges):
        assert ("use_expln" in trial) == trial["use_sde"]
        assert ("clip_mean" in trial) == trial.get("use_expln", False)


def test_a_list_comes_back_as_a_list():
    ranges = parameters(
        net_arch=[[64, 64], {"pi": [32], "qf": [16, 16]}, "big"],
        optimizer_kwargs=[{"eps": 1e-5}],
        gamma={"low": 0.9, "high": 0.91, "when": {"net_arch": [[64, 64]]}},
    )
    trials = drawn("sac", ranges)
    assert {trial["net_arch"] for trial in trials} == {
        "[64, 64]",
        '{"pi": [32], "qf": [16, 16]}',
        "big",
    }
    found = {
        trial["net_arch"]: names.hyperparameters("sac", trial)["policy_kwargs"] for trial in trials
    }
    assert found["[64, 64]"] == {"net_arch": [64, 64], "optimizer_kwargs": {"eps": 1e-5}}
    assert found["big"]["net_arch"] == [400, 300]
    mapping = found['{"pi": [32], "qf": [16, 16]}']
    assert mapping["net_arch"] == {"pi": [32], "qf": [16, 16]}
    for trial in trials:
        assert ("gamma" in trial) == (trial["net_arch"] == "[64, 64]")


# --- the first trial -----------------------------------------------------------------------------


def test_defaults_inside_the_space_stay_as_they_are():
    ranges = parameters(
        learning_rate={"low": 1e-4, "high": 3e-3, "log": True},
        batch_size=[128, 160, 192, 224, 256],
        gamma={"low": 0.99, "high": 0.997},
        net_arch=["small", "medium"],
        lr_schedule=["linear", "constant"],
        activation_fn=["tanh", "relu"],
    )
    values, moved = space.defaults("sac", ranges, {})
    assert values == {
        "learning_rate": 3e-4,
        "batch_size": 256,
        "gamma": 0.99,
        "net_arch": "medium",
        "lr_schedule": "constant",
        "activation_fn": "relu",
    }
    assert moved == []


def test_defaults_outside_are_moved_to_the_nearest_value_and_told():
    ranges = parameters(
        learning_rate={"low": 1e-3, "high": 3e-3, "log": True},
        batch_size=[64, 100, 200],
        one_minus_gamma={"low": 0.02, "high": 0.1},
        learning_starts={"low": 0, "high": 1000, "step": 250},
    )
    values, moved = space.defaults("sac", ranges, {})
    # 3e-4 is below; 256 is nearest to 200; 1 − 0.99 is below 0.02; 100 is nearer to 0 than to 250.
    assert values == {
        "learning_rate": 1e-3,
        "batch_size": 200,
        "one_minus_gamma": 0.02,
        "learning_starts": 0,
    }
    assert moved == [
        "learning_rate 0.0003 → 0.001",
        "batch_size 256 → 200",
        "one_minus_gamma 0.01 → 0.02",
        "learning_starts 100 → 0",
    ]
    assert type(values["learning_starts"]) is int


def test_a_default_is_moved_onto_the_steps_of_a_range_that_ends_between_two():
    # 0, 0.35, 0.7: the next would be 1.05, and 1 itself is none of them.
    values, _ = space.defaults("sac", parameters(gamma={"low": 0, "high": 1, "step": 0.35}), {})
    assert values["gamma"] == pytest.approx(0.7)


def test_what_the_experiment_gives_is_the_default():
    ranges = parameters(gamma={"low": 0.9, "high": 1}, noise_std={"low": 0.2, "high": 0.9})
    values, moved = space.defaults("td3", ranges, {"gamma": 0.95, "noise_std": 0.3})
    assert (values, moved) == ({"gamma": 0.95, "noise_std": 0.3}, [])


def test_a_default_that_is_no_number_falls_into_the_middle():
    ranges = parameters(ent_coef={"low": 1e-4, "high": 1e-2, "log": True})
    values, moved = space.defaults("sac", ranges, {})
    assert values["ent_coef"] == pytest.approx(1e-3)  # the geometric mean
    assert moved == [f"ent_coef auto → {values['ent_coef']}"]


def test_no_noise_is_the_default_under_the_zoos_name_too():
    values, moved = space.defaults("sac", parameters(noise_type=["normal", None]), {})
    assert (values, moved) == ({"noise_type": None}, [])


def test_ppos_powers_of_its_defaults():
    ranges = parameters(
        batch_size_pow={"low": 5, "high": 8}, n_steps_pow={"low": 8, "high": 12}, net_arch=["small"]
    )
    values, moved = space.defaults("ppo", ranges, {})
    # 64 = 2^6, 2048 = 2^11, and SB3's own network is [64, 64].
    assert (values, moved) == ({"batch_size_pow": 6, "n_steps_pow": 11, "net_arch": "small"}, [])


def test_a_conditional_default_is_left_out_where_its_condition_does_not_hold():
    ranges = parameters(
        noise_type=["none"], noise_std={"low": 0.1, "high": 0.2, "when": {"noise_type": "normal"}}
    )
    values, _ = space.defaults("td3", ranges, {})
    assert values == {"noise_type": "none"}


@pytest.mark.parametrize("algo", ["sac", "td3", "ppo"])
def test_every_default_lies_inside_what_optuna_would_draw(algo):
    ranges = {
        "sac": parameters(
            batch_size={"low": 10, "high": 1000, "step": 100}, tau={"low": 0.01, "high": 0.05}
        ),
        "td3": parameters(
            noise_std={"low": 0.25, "high": 1, "step": 0.25}, net_arch=[[8], "big"]
        ),
        "ppo": parameters(
            n_steps={"low": 64, "high": 1024, "log": True}, clip_range=[0.3, 0.4], vf_coef=[1]
        ),
    }[algo]  # fmt: skip
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    values, _ = space.defaults(algo, ranges, {})
    study.enqueue_trial(dict(values))
    assert space.suggest(study.ask(), algo, ranges) == values  # without a warning


# --- later rounds --------------------------------------------------------------------------------


def test_a_range_around_the_winner_is_clipped_to_the_last_one():
    last = parameters(
        learning_rate={"low": 1e-4, "high": 3e-3, "log": True},
        gamma={"low": 0.9, "high": 0.99},
        batch_size={"low": 100, "high": 300},
    )
    around = parameters(
        learning_rate={"around": [0.612, 1.53]},
        gamma={"around": [0.5, 2]},
        batch_size={"around": [0.5, 1.255]},
    )
    winner = {"learning_rate": 1.634e-3, "gamma": 0.95, "batch_size": 200}
    found = space.narrowed(around, last, winner)
    rate = found["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (
        pytest.approx(1.0e-3, rel=1e-4),
        pytest.approx(2.5e-3, rel=1e-4),
        True,
    )
    assert (found["gamma"].low, found["gamma"].high) == (0.9, 0.99)
    sizes = [trial["batch_size"] for trial in drawn("sac", {"batch_size": found["batch_size"]}, 99)]
    assert min(sizes) >= 100 and max(sizes) <= 251
    assert all(type(size) is int for size in sizes)


def test_a_range_around_a_negative_winner_still_rises():
    last = parameters(log_std_init={"low": -4, "high": 1})
    around = parameters(log_std_init={"around": [0.5, 1.5]})
    found = space.narrowed(around, last, {"log_std_init": -2.0})["log_std_init"]
    assert (found.low, found.high) == (-3.0, -1.0)


def test_a_winner_without_a_conditional_parameter_leaves_the_whole_range():
    last = parameters(
        noise_type=["none", "normal"],
        noise_std={"low": 0.1, "high": 0.2, "when": {"noise_type": "normal"}},
    )
    around = parameters(noise_std={"around": [0.9, 1.1]})
    found = space.narrowed(around, last, {"noise_type": "none"})["noise_std"]
    assert (found.low, found.high) == (0.1, 0.2)


def test_a_narrowed_parameter_has_its_own_rounds_conditions():
    # noise_type is no parameter of the second round: noise_std exists there.
    last = parameters(
        noise_type=["none", "normal"],
        noise_std={"low": 0.1, "high": 0.2, "when": {"noise_type": "normal"}},
    )
    around = parameters(noise_std={"around": [0.5, 2]})
    found = space.narrowed(around, last, {"noise_type": "normal", "noise_std": 0.15})
    assert all("noise_std" in trial for trial in drawn("td3", found, 5))


def test_a_later_round_changes_what_it_names_and_keeps_the_rest_of_the_winner():
    winner = {
        "learning_rate": 1e-3,
        "lr_schedule": "linear",
        "one_minus_gamma": 0.1,
        "train_freq": 8,
        "subsample_steps": 2,
        "net_arch": "big",
        "activation_fn": "relu",
    }
    values = {"learning_rate": 2e-3, "gamma": 0.5, "train_freq": 4, "net_arch": "small"}
    assert names.hyperparameters("sac", names.merged(winner, values)) == {
        "learning_rate": "lin_0.002",  # the winner's schedule
        "gamma": 0.5,
        "train_freq": 4,
        "gradient_steps": 2,  # every second timestep, as the winner's
        "policy_kwargs": {"net_arch": [64, 64], "activation_fn": "relu"},
    }
    assert names.merged({"gradient_steps": 2}, {"utd": 1}) == {"utd": 1}


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({}, ["one of a range", "choices", "or around"]),
        ({"low": 1, "high": 2, "choices": [1]}, ["one of a range"]),
        ({"choices": [1], "around": [1, 2]}, ["one of a range"]),
        ({"low": 1}, ["requires both low and high"]),
        ({"low": 2, "high": 1}, ["low 2 must not be above high 1"]),
        ({"low": 0, "high": 1, "log": True}, ["low 0", "must be above 0"]),
        ({"low": 1, "high": 2, "log": True, "step": 0.5}, ["mutually exclusive"]),
        ({"low": 1, "high": 2, "step": 0}, ["greater than 0"]),
        ({"low": math.nan, "high": 2}, ["finite"]),
        ({"low": 1, "high": math.inf}, ["finite"]),
        ({"low": True, "high": 2}, ["must be a number"]),
        ([], ["at least 1 item"]),
        ([1, 1], ["contain a value twice"]),
        ([1, 1.0], ["contain a value twice"]),
        ([[64], [64]], ["contain a value twice"]),
        ({"around": [2, 1]}, ["rising"]),
        ({"around": [0, 1]}, ["above 0"]),
        ({"around": [1]}, ["around"]),
        ([{1, 2}], ["{1, 2}", "must be text, a number, a list or a mapping"]),
        ([[b"x"]], ["must be text, a number, a list or a mapping"]),
        ({"low": 1, "high": 2, "when": {"x": [1, {"y": {2}}]}},
         ["when {'y': {2}}", "must be text, a number, a list or a mapping"]),
    ],
)  # fmt: skip
def test_a_parameter_that_is_no_range_is_refused(part, words):
    with pytest.raises(ValidationError) as caught:
        Parameter.model_validate(part)
    assert all(word in str(caught.value) for word in words), caught.value


RATE = {"low": 1e-4, "high": 1e-3}
LAST = parameters(learning_rate=RATE, batch_size=[64, 128])


@pytest.mark.parametrize(
    ("algo", "parts", "last", "field", "words"),
    [
        ("sac", {}, None, "", ["at least one parameter"]),
        ("sac", {"learning_rte": RATE}, None, "learning_rte",
         ["SAC", "did you mean learning_rate"]),
        ("sac", {"n_epochs": RATE}, None, "n_epochs", ["unknown parameter of SAC"]),
        ("sac", {"one_minus_gae_lambda": RATE}, None, "one_minus_gae_lambda", ["unknown"]),
        ("ppo", {"subsample_steps": RATE}, None, "subsample_steps", ["unknown parameter of PPO"]),
        ("sac", {"policy_kwargs": [{}]}, None, "policy_kwargs", ["unknown"]),
        ("sac", {"gamma": RATE, "one_minus_gamma": RATE}, None, "one_minus_gamma",
         ["one_minus_gamma and gamma both set gamma"]),
        ("sac", {"net_arch": ["big"], "policy_kwargs.net_arch": ["big"]}, None,
         "policy_kwargs.net_arch", ["both set"]),
        ("sac", {"batch_size_pow": {"low": 2, "high": 3}, "batch_size": [64]}, None,
         "batch_size", ["both set batch_size"]),
        ("sac", {"utd": [1], "gradient_steps": [1]}, None, "gradient_steps", ["both set"]),
        ("sac", {"train_freq": [4], "subsample_steps": [2], "gradient_steps": [2]}, None,
         "gradient_steps", ["both set"]),
        ("sac", {"gradient_steps": [2], "subsample_steps": [2]}, None,
         "subsample_steps", ["both set"]),
        ("sac", {"lr_schedule": ["linear"]}, None, "lr_schedule", ["learning_rate"]),
        ("sac", {"learning_rate": RATE, "lr_schedule": ["cosine"]}, None, "lr_schedule",
         ["'cosine'", "constant, linear"]),
        ("sac", {"learning_rate": RATE, "lr_schedule": RATE}, None, "lr_schedule",
         ["constant, linear"]),
        ("sac", {"subsample_steps": [0, 1]}, None, "subsample_steps", ["0", "at least 1"]),
        ("sac", {"subsample_steps": {"low": -1, "high": 3}}, None, "subsample_steps",
         ["-1", "at least 1"]),
        ("sac", {"subsample_steps": [[1]]}, None, "subsample_steps", ["[1]", "whole number"]),
        ("sac", {"batch_size_pow": ["a"]}, None, "batch_size_pow", ["'a'", "whole number"]),
        ("sac", {"use_sde": {"low": 0, "high": 1}}, None, "use_sde", ["choices", "true, false"]),
        ("ppo", {"ortho_init": {"low": 0, "high": 1}}, None, "ortho_init", ["choices"]),
        ("sac", {"gamma": {**RATE, "when": {"tau": 1}}}, None, "gamma",
         ["when tau", "there is none"]),
        ("sac", {"tau": RATE, "gamma": {**RATE, "when": {"tua": 1}}}, None, "gamma",
         ["when tua", "did you mean tau"]),
        ("sac", {"gamma": {**RATE, "when": {"tau": 1}}, "tau": [1]}, None, "gamma",
         ["must be a parameter that comes before"]),
        ("td3", {"noise_type": ["none", "normal"], "noise_std": {**RATE, "when": {"noise_type":
         "nromal"}}}, None, "noise_std", ["'nromal'", "did you mean normal"]),
        ("sac", {"learning_rate": {"around": [0.5, 2]}}, None, "learning_rate",
         ["range of the same parameter in the previous round"]),
        ("sac", {"gamma": {"around": [0.5, 2]}}, LAST, "gamma", ["in the previous round"]),
        ("sac", {"batch_size": {"around": [0.5, 2]}}, LAST, "batch_size", ["previous round"]),
        ("sac", {"batch_size": {"low": 1.5, "high": 3}}, None, "batch_size", ["1.5", "whole"]),
        ("sac", {"batch_size": {"low": 1, "high": 3, "step": 0.5}}, None, "batch_size", ["0.5"]),
        ("sac", {"gradient_steps": {"low": 1, "high": 2.5}}, None, "gradient_steps", ["2.5"]),
        ("sac", {"batch_size_pow": {"low": 1, "high": 1e12}}, None, "batch_size_pow",
         ["1e+12", "at most 40"]),
    ],
)  # fmt: skip
def test_a_space_that_means_nothing_is_refused(algo, parts, last, field, words):
    with pytest.raises(ExperimentError) as caught:
        check_space.check_names(algo, parameters(**parts), last)
    assert caught.value.field == field
    assert caught.value.message.isprintable()
    assert all(word in caught.value.message for word in words), caught.value.message


def test_the_order_of_schedule_and_learning_rate_does_not_matter():
    one = parameters(lr_schedule=["linear", "constant"], learning_rate=RATE)
    check_space.check_names("sac", one, None)
    check_space.check_names("sac", dict(reversed(one.items())), None)
    found = names.hyperparameters("sac", {"lr_schedule": "linear", "learning_rate": 0.5})
    assert found == {"learning_rate": "lin_0.5"}


def test_every_known_name_sets_something_that_the_algorithm_has():
    for algo in ("sac", "td3", "ppo"):
        for name in names.known_names(algo):
            section, _, last = names.target(name).rpartition(".")
            assert section in ("", "policy_kwargs")
            assert last != "policy_kwargs" and isinstance(names.is_whole(algo, name), bool)
    assert "n_steps_pow" not in names.known_names("sac")
    assert {"n_steps_pow", "one_minus_gae_lambda"} <= set(names.known_names("ppo"))
