"""A search's YAML: the reference searches, what is refused and where, and what it costs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError
from gallop.report.expected_time import Expected
from gallop.tuning import search as searches
from gallop.tuning.search import from_data, load, spaces, to_yaml
from gallop.tuning.search_settings import n_evaluations

CONFIGS = Path(__file__).parents[2] / "configs"
REFERENCE = CONFIGS / "halfcheetah_sac_search.yaml"
ROBUST = CONFIGS / "halfcheetah_sac_search_robust.yaml"
ALL = [REFERENCE, ROBUST, *sorted((CONFIGS / "searches").glob("*.yaml"))]

SMALL = """\
experiment:
  algo: sac
  env: Pendulum-v1
  total_timesteps: 4_000
  evaluation: {interval: 1_000, n_episodes: 1}
  hyperparameters:
    tau: 0.01
n_seeds: 1
objective: {n_last: 1}
rounds:
  - n_trials: 2
    space:
      learning_rate: {low: 1.0e-4, high: 1.0e-3, log: true}
      batch_size: [64, 128]
  - n_trials: 1
    space:
      learning_rate: {around: [0.5, 2]}
"""


def refusal(text, tmp_path, flags=None):
    """The one line of a bad file, without its folder."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ExperimentError) as caught:
        load(path, flags)
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == [path]
    return str(caught.value).replace(str(path), "bad.yaml")


# --- the committed searches ----------------------------------------------------------------------


def test_the_reference_search_is_the_specified_one():
    search = load(REFERENCE)
    assert (search.algo, search.env) == ("sac", "HalfCheetah-v5")
    assert (search.n_seeds, search.objective.n_last, search.pruner.name) == (1, 1, "none")
    wide, narrow = search.rounds
    assert (wide.n_trials, narrow.n_trials) == (20, 10)
    assert list(wide.space) == ["learning_rate", "batch_size", "gamma"]
    rate, size, gamma = wide.space.values()
    assert (rate.low, rate.high, rate.log) == (1e-4, 3e-3, True)
    assert size.choices == [128, 160, 192, 224, 256]
    assert (gamma.low, gamma.high, gamma.log, gamma.step) == (0.99, 0.997, False, None)
    for number in (0, 1):
        trained = search.trial_experiment(number, {}, 7)
        assert (trained.total_timesteps, trained.training_seed) == (30_000, 7)
        assert (trained.evaluation.interval, trained.evaluation.n_episodes) == (15_000, 1)
        assert n_evaluations(trained) == 2
        assert trained.hyperparameters.learning_starts == 100  # SB3's
    assert list(narrow.space) == ["learning_rate"]
    winner = {"learning_rate": 1.634e-3, "batch_size": 128, "gamma": 0.9927}
    found = spaces(search, 1, winner)["learning_rate"]
    assert (f"{found.low:.1e}", f"{found.high:.1e}", found.log) == ("1.0e-03", "2.5e-03", True)
    # Near an end of the first round's range it is clipped to that.
    high = spaces(search, 1, {**winner, "learning_rate": 2.9e-3})["learning_rate"]
    assert high.high == 3e-3 and high.low == pytest.approx(2.9e-3 * 0.612)
    low = spaces(search, 1, {**winner, "learning_rate": 1.1e-4})["learning_rate"]
    assert low.low == 1e-4


def test_the_robust_search_has_the_same_ranges_and_less_luck():
    search, reference = load(ROBUST), load(REFERENCE)
    assert [part.space for part in search.rounds] == [part.space for part in reference.rounds]
    assert search.n_seeds >= 3 and search.objective.n_last >= 2
    assert search.retraining.n_best >= 2
    experiment = search.trial_experiment(0, {}, 0)
    assert experiment.total_timesteps == 30_000 and experiment.evaluation.n_episodes == 5


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_a_committed_search_loads_and_reads_back_equal(path, tmp_path):
    flags = {} if path.parent == CONFIGS else {"experiment.env": "Hopper-v5"}
    search = load(path, flags)
    (tmp_path / "search.yaml").write_text(to_yaml(search))
    assert load(tmp_path / "search.yaml") == search
    assert search.source


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("env", ["HalfCheetah-v5", "Pendulum-v1"])
def test_the_search_of_an_algorithm_serves_whatever_task(algo, env):
    search = load(CONFIGS / "searches" / f"{algo}.yaml", {"experiment.env": env})
    assert (search.algo, search.env) == (algo, env)


@pytest.mark.parametrize("path", ALL[:4], ids=lambda path: path.name)
def test_trials_have_the_utd_ratio_of_the_training(path):
    search = load(path, {"experiment.env": "HalfCheetah-v5"})
    trained = search.trial_experiment(0, {"learning_rate": 1e-3, "batch_size": 128}, 0)
    if search.algo in ("sac", "td3"):
        assert trained.hyperparameters.utd_ratio(trained.n_envs) == 1.0
        assert trained.n_envs == 1


def test_every_kind_of_setting_reads_back_equal(tmp_path):
    search = from_data(
        {
            **yaml.safe_load(SMALL),
            "search_seed": 5,
            "n_seeds": 6,
            "sampler": {"name": "random", "n_startup_trials": 0, "multivariate": False},
            "pruner": {"name": "wilcoxon", "p_threshold": 0.2},
            "first_trial": "sampled",
            "batch": 2,
            "retraining": {"n_best": 0},
            "source": "é\n×",
            "rounds": [
                {
                    "n_trials": 3,
                    "total_timesteps": 2000,
                    "space": {
                        "noise_type": ["none", None],
                        "noise_std": {"low": 0, "high": 1, "when": {"noise_type": ["none"]}},
                        "gamma": {"low": 0, "high": 1, "step": 0.25},
                        "net_arch": [[64, 64], {"pi": [8], "qf": [8, 8]}, "big"],
                        "use_sde": [True, False],
                        "learning_starts": {"low": 0, "high": 0},
                    },
                },
                {"n_trials": 1, "space": {"gamma": {"around": [0.5, 1]}}},
            ],
        }
    )
    (tmp_path / "search.yaml").write_text(to_yaml(search))
    assert load(tmp_path / "search.yaml") == search


def test_what_a_search_costs():
    # Round 1: 2 trials; round 2: 1; then the winner and the defaults on 3 seeds: 9 trainings of
    # 4,000 timesteps, of 10 seconds in round 1 and 20 in round 2, with 2 threads each.
    expected = [Expected(seconds, 0.0, 0.0, "measured") for seconds in (10.0, 20.0)]
    cost = searches.cost(from_data(yaml.safe_load(SMALL)), expected, 2)
    assert cost == (3, 9, 36_000, 2 * 10 + 1 * 20 + 6 * 20, 2, "measured")
    assert cost.core_seconds == cost.seconds * 2
    busy = searches.cost(
        from_data(yaml.safe_load(SMALL)), [each._replace(busy=8.0) for each in expected], 2
    )
    assert busy.seconds == cost.seconds and "8.0 times as long" in busy.note


def test_a_rounds_own_timesteps_are_those_of_its_trials():
    data = yaml.safe_load(SMALL)
    data["rounds"][1]["total_timesteps"] = 8_000
    search = from_data(data)
    found = [search.trial_experiment(number, {}, 0) for number in (0, 1)]
    assert [e.total_timesteps for e in found] == [4_000, 8_000]
    assert [n_evaluations(e) for e in found] == [4, 8]


def test_every_trial_of_a_round_is_evaluated_as_often_whatever_it_draws():
    # Unasked, the interval would follow train_freq: 5,000 is no multiple of 16.
    data = yaml.safe_load(SMALL)
    data["experiment"] |= {"total_timesteps": 50_000, "evaluation": {"n_episodes": 1}}
    data["experiment"]["milestones"] = [100]
    search = from_data(data)
    assert n_evaluations(search.trial_experiment(0, {}, 0)) == 10
    trained = search.trial_experiment(0, {"train_freq": 8}, 0)
    assert trained.evaluation.interval == 5_000
    with pytest.raises(ExperimentError, match=r"5000 must divide .* multiple of 16"):
        search.trial_experiment(0, {"train_freq": 16}, 0)


def test_the_winners_settings_go_under_a_trials_own():
    search = from_data(yaml.safe_load(SMALL))
    settings = {"gamma": 0.5, "policy_kwargs": {"net_arch": [8]}}
    trained = search.trial_experiment(0, settings, 0)
    assert trained.hyperparameters.tau == 0.01  # the experiment's
    assert trained.hyperparameters.gamma == 0.5
    assert trained.hyperparameters.policy_kwargs.net_arch == [8]
    assert not trained.films and trained.milestones == (100,) and not trained.trackers


# --- mistakes ------------------------------------------------------------------------------------

RATE = "      learning_rate: {low: 1.0e-4, high: 1.0e-3, log: true}"
SIZE = "      batch_size: [64, 128]"


def changed(old, new):
    assert SMALL.count(old) >= 1, old
    return SMALL.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (changed("learning_rate: {low", "learning_rte: {low"), ":13:",
         ["learning_rte", "unknown parameter of SAC", "did you mean learning_rate"]),
        (changed("low: 1.0e-4, high: 1.0e-3", "low: 1.0e-3, high: 1.0e-4"), ":13:",
         ["learning_rate", "low 0.001 must not be above high 0.0001"]),
        (changed("[64, 128]", "[0, 128]"), ":14:", ["batch_size", "0", "at least 1"]),
        (changed("[64, 128]", "{low: 0, high: 128}"), ":14:", ["batch_size", "0", "at least 1"]),
        (changed("[64, 128]", "[64, many]"), ":14:", ["batch_size", "'many'", "whole number"]),
        (changed("[64, 128]", "[64, 64]"), ":14:", ["batch_size", "contain a value twice"]),
        (changed("[64, 128]", "[]"), ":14:", ["batch_size", "at least 1 item"]),
        (changed("[64, 128]", "64"), ":14:", ["batch_size", "64"]),
        (changed("low: 1.0e-4", "low: 0"), ":13:", ["learning_rate", "must be above 0"]),
        (changed("low: 1.0e-4", "low: ten"), ":13:", ["learning_rate", "low", "'ten'"]),
        (changed("log: true", "logg: true"), ":13:",
         ["logg", "unknown setting", "did you mean log?"]),
        (changed("n_seeds:", "n_seedz:"), ":8:", ["n_seedz", "did you mean n_seeds"]),
        (changed("n_last:", "n_lst:"), ":9:", ["n_lst", "did you mean n_last"]),
        (changed("n_trials: 2", "trials: 2"), ":11:", ["trials", "did you mean n_trials"]),
        (changed("total_timesteps", "total_timestep"), ":4:", ["did you mean total_timesteps"]),
        (changed("interval:", "intervall:"), ":5:", ["intervall", "did you mean interval"]),
        (changed("    tau:", "    tua:"), ":7:", ["tua", "did you mean tau"]),
        (changed("n_seeds: 1", "pruner: {name: medain}"), ":8:", ["'medain'", "median"]),
        (changed("n_seeds: 1", "sampler: {name: cma}"), ":8:", ["'cma'", "tpe, random"]),
        (changed("n_seeds: 1", "retraining: {n_seeds: 0}"), ":8:", ["retraining.n_seeds", "0"]),
        (changed("n_seeds: 1", "n_seeds: 0"), ":8:", ["n_seeds", "0"]),
        (changed("n_seeds: 1", "search_seed: -1"), ":8:", ["search_seed", "-1"]),
        (changed("n_seeds: 1", "first_trial: default"), ":8:", ["did you mean defaults"]),
        (changed("n_last: 1", "n_last: 5"), ":9:", ["objective.n_last", "5", "at most 4"]),
        (changed("n_seeds: 1", "pruner: {name: wilcoxon}\nn_seeds: 4"), ":8:",
         ["wilcoxon", "4 seeds", "3 pairs", "0.125", "0.1"]),
        (changed("n_trials: 2", "n_trials: 0"), ":11:", ["n_trials", "0", "at least 1"]),
        (changed(SIZE, SIZE + "\n      gamma: {low: 0.9, high: 1, when: {tua: 1}}"), ":15:",
         ["gamma", "when tua", "must be a parameter"]),
        (changed(SIZE, SIZE + "\n      batch_size_pow: {low: 5, high: 7}"), ":15:",
         ["batch_size_pow and batch_size both set batch_size"]),
        (changed(SIZE, SIZE + "\n      tau: {low: 0.1, high: 0.2}"), ":15:",
         ["tau", "experiment.hyperparameters.tau", "0.01", "remove one of them"]),
        (changed("tau: 0.01", "gamma: 0.9").replace(SIZE, "      one_minus_gamma: [0.1]"), ":14:",
         ["one_minus_gamma", "experiment.hyperparameters.gamma", "remove one"]),
        (changed("tau: 0.01", "policy_kwargs: {net_arch: [8]}").replace(
            SIZE, "      net_arch: [big]"), ":14:",
         ["net_arch", "experiment.hyperparameters.policy_kwargs.net_arch", "remove one"]),
        (changed(RATE, "      learning_rate: {around: [0.5, 2]}"), ":13:",
         ["learning_rate", "around", "previous round"]),
        (changed("{around: [0.5, 2]}", "{around: [2, 0.5]}"), ":17:", ["rising order"]),
        (changed("learning_rate: {around: [0.5, 2]}", "batch_size: {around: [0.5, 2]}"), ":17:",
         ["batch_size", "previous round"]),
        (changed("  algo: sac\n", ""), ":1:", ["experiment.algo", "is missing"]),
        (changed("  env: Pendulum-v1\n", ""), ":1:", ["env", "is missing"]),
        (changed("  total_timesteps: 4_000\n", ""), ":1:", ["total_timesteps", "is missing"]),
        (SMALL[SMALL.index("n_seeds"):], ":", ["experiment", "is missing"]),
        (SMALL[:SMALL.index("rounds")], ":", ["rounds", "is missing"]),
        (SMALL[:SMALL.index("rounds")] + "rounds: []\n", ":10:", ["rounds", "at least 1"]),
        (changed("algo: sac", "algo: sacc"), ":2:", ["'sacc'", "did you mean sac?"]),
        (changed("Pendulum-v1", "Pendulun-v1"), ":3:", ["'Pendulun-v1'", "mean Pendulum-v1"]),
        (changed("4_000", "-5"), ":4:", ["total_timesteps", "-5"]),
        (changed("interval: 1_000", "interval: 700"), ":5:", ["700", "must divide"]),
        (changed("n_episodes: 1", "n_episodes: 501"), ":5:", ["n_episodes", "501", "at most 500"]),
        (changed("    tau: 0.01", "    utd: 0.3"), ":7:", ["0.3", "whole numbers"]),
        (changed("  hyperparameters:\n    tau: 0.01\n", "  hyperparameters: [1]\n"), ":6:",
         ["hyperparameters", "mapping"]),
        (changed("  hyperparameters:\n    tau: 0.01\n", "  best_params: best\n"), ":6:",
         ["best_params", "search"]),
        (changed(SIZE, "      batch_size_pow: {low: 1, high: 1.0e+12}"), ":14:", ["at most 40"]),
        (changed("n_seeds: 1", "n_seeds: 1\nn_seeds: 2"), ":9:", ["n_seeds is given twice"]),
        (changed("n_seeds: 1", "n_seeds: [1"), ":", ["is not valid YAML"]),
        ("", ":", ["is empty"]),
        ("- 1\n", ":", ["not a mapping"]),
        ("experiment: !!python/object/apply:os.getcwd []\n", ":1:", ["could not determine"]),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{y}: &{y} [{','.join([f'*{x}'] * 10)}]\n" for x, y in pairwise("abcdefg")),
         ":", ["aliases"]),
        ("a: &a [*a]\n", ":", ["contains itself"]),
        ("a: " + "x" * 2_000_000, ":", ["larger than"]),
        ("[" * 5000, ":", ["nested too deeply"]),
        (b"\xff\xfe\x00\x01", ":", ["not a text file"]),
        (b"a: \x1b[31m", ":", ["not valid YAML"]),
        (changed("64, 128", "\"\\x1b[31m\\n\""), ":14:", ["batch_size", "\\x1b[31m"]),
    ],
)  # fmt: skip
def test_bad_searches_are_refused_in_one_line_with_their_place(text, place, words, tmp_path):
    message = refusal(text, tmp_path)
    assert message.startswith(f"bad.yaml{place}"), message
    assert all(word in message for word in words), message


def test_a_mistake_in_a_flag_is_not_said_to_be_the_files(tmp_path):
    message = refusal(SMALL, tmp_path, {"n_seeds": 0})
    assert message.startswith("n_seeds: 0: "), message
    message = refusal(SMALL, tmp_path, {"experiment.env": "Pendulun-v1"})
    assert message.startswith("experiment.env: 'Pendulun-v1'"), message


def test_the_spaces_of_an_algorithm_without_a_task_say_what_is_missing(tmp_path):
    with pytest.raises(ExperimentError, match=r"env.*is missing"):
        load(CONFIGS / "searches" / "sac.yaml")


def test_wilcoxon_with_enough_seeds_is_taken(tmp_path):
    # 5 seeds: 4 pairs before the last one, least p-value 1/16, below 0.1.
    data = yaml.safe_load(SMALL) | {"n_seeds": 5, "pruner": {"name": "wilcoxon"}}
    assert from_data(data).n_seeds == 5


# --- whatever a person might write ---------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2, 10**30, 10**400, 0.5, 1e308, -0.0, float("nan"), float("inf")]),
    st.sampled_from(
        ["", "sac", "lin_1e-3", "big", "\x1b[2J", "1e400", "²", "a.b", "true", "[", "{"]
    ),
    st.dates(),
    st.binary(max_size=3),
)
NAMES = st.sampled_from(
    ["low", "high", "log", "step", "choices", "around", "when", "n_trials", "space", "algo", "env",
     "hyperparameters", "learning_rate", "gamma", "net_arch", "lr_schedule", "", "a.b", "0"]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(NAMES, st.integers(0, 2), st.none()), inner, max_size=3),
    ),
    max_leaves=6,
)
PLACES = [
    (), ("experiment",), ("rounds",), ("n_seeds",), ("objective",), ("sampler",), ("pruner",),
    ("retraining",), ("search_seed",), ("batch",), ("source",), ("first_trial",),
    ("experiment", "algo"), ("experiment", "env"), ("experiment", "total_timesteps"),
    ("experiment", "evaluation"), ("experiment", "evaluation", "interval"),
    ("experiment", "hyperparameters"), ("experiment", "hyperparameters", "tau"),
    ("experiment", "hyperparameters", "policy_kwargs"), ("experiment", "env_kwargs"),
    ("experiment", "wrappers"), ("experiment", "milestones"), ("experiment", "n_envs"),
    ("objective", "n_last"), ("pruner", "name"), ("sampler", "name"), ("retraining", "n_best"),
    ("rounds", 0), ("rounds", 0, "n_trials"), ("rounds", 0, "space"),
    ("rounds", 0, "total_timesteps"), ("rounds", 1, "space"),
    ("rounds", 0, "space", "learning_rate"), ("rounds", 0, "space", "batch_size"),
    ("rounds", 0, "space", "learning_rate", "low"), ("rounds", 0, "space", "learning_rate", "when"),
    ("rounds", 0, "space", "gradient_steps"), ("rounds", 0, "space", "net_arch"),
    ("rounds", 0, "space", "lr_schedule"), ("rounds", 0, "space", "subsample_steps"),
    ("rounds", 0, "space", "one_minus_gamma"), ("rounds", 0, "space", "policy"),
    ("rounds", 0, "space", "batch_size_pow"), ("rounds", 0, "space", "optimizer_kwargs"),
    ("rounds", 1, "space", "learning_rate", "around"), ("rounds", 1, "space", "gamma"),
]  # fmt: skip


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.sampled_from(PLACES), value=VALUES)
def test_whatever_a_person_writes_loads_or_gets_one_line(place, value, tmp_path):
    data = yaml.safe_load(SMALL)
    owner = data
    for part in place[:-1]:
        if isinstance(owner, dict):
            owner.setdefault(part, {})
        owner = owner[part]
    if place:
        owner[place[-1]] = value
    else:
        data = value
    path = tmp_path / "search.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    try:
        search = load(path)
    except ExperimentError as error:
        assert str(error).isprintable()
        return
    # What was taken can be written down, read back and costed.
    path.write_text(to_yaml(search))
    again = load(path)
    assert to_yaml(again) == to_yaml(search)
    searches.cost(search, [Expected(1.0, 0.0, 0.0, "")] * len(search.rounds), 1)
