"""`best_params`: a run uses the results of the right search, and of no other."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gallop.commands.cli import main
from gallop.errors import ExperimentError
from gallop.experiments.search_results import SearchResults, newest, read, write_text
from gallop.experiments.yaml_file import load, to_yaml
from gallop.tuning.search_directory import without_password

RUN = """\
algo: sac
env: Pendulum-v1
total_timesteps: 4_000
hyperparameters:
  gamma: 0.9
  tau: 0.5
  policy_kwargs: {activation_fn: elu}
"""
FOUND = {
    "learning_rate": 0.002,
    "gamma": 0.95,
    "policy_kwargs": {"net_arch": [8, 8]},
}


def results(**changes):
    """Results of a search of SAC on Pendulum-v1 whose trial 2 was the best of 0, 2 and 5."""
    trials = [
        {"number": 0, "value": -9.0, "hyperparameters": {"gamma": 0.0}, "utd_ratio": 1.0},
        {"number": 2, "value": -1.0, "hyperparameters": FOUND, "utd_ratio": 1.0},
        {"number": 5, "value": None, "hyperparameters": {"learning_rate": "lin_0.01"},
         "utd_ratio": 1.0},
        {"number": 6, "value": None, "hyperparameters": {}, "utd_ratio": None},
    ]  # fmt: skip
    fields = {
        "algo": "sac",
        "env": "Pendulum-v1",
        "study_name": "SAC_Pendulum-v1/one",
        "finished": True,
        "utd_ratio": 1.0,
        "best_trial": 2,
        "best_params": FOUND,
        "best_value": -1.0,
        "trials": trials,
        "more": {"round": 1, "search": {"rounds": [{}]}},
    }
    return SearchResults(**{**fields, **changes})


def searched(folder: Path, when: int = 0, **changes):
    """The folder of a search that ended `when` seconds after a fixed time."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(write_text(results(**changes)))
    os.utime(folder / "results.json", (1_000_000 + when,) * 2)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Loads RUN, in an empty folder, with flags."""
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(RUN)

    def loaded(text=RUN, **flags):
        Path("run.yaml").write_text(text)
        return load(Path("run.yaml"), {name.replace("__", "."): v for name, v in flags.items()})

    return loaded


def refusal(run, **flags):
    with pytest.raises(ExperimentError) as caught:
        run(**flags)
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.mark.parametrize("path", ["there", "there/results.json"])
def test_a_folder_or_file_provides_the_best_trials_hyperparameters(run, path):
    searched(Path("there"))
    found = run(best_params=path).hyperparameters
    assert (found.learning_rate, found.gamma) == (0.002, 0.95)  # of the search
    assert found.tau == 0.5  # of the file
    # A search's networks and the file's activation function go together.
    assert (found.policy_kwargs.net_arch, found.policy_kwargs.activation_fn) == ([8, 8], "elu")
    assert found.batch_size == 256  # SB3's


def test_flags_override_the_search_which_overrides_the_file(run):
    searched(Path("there"))
    experiment = run(
        best_params="there",
        hyperparameters__learning_rate="0.5",
        hyperparameters__policy_kwargs__net_arch="[4]",
    )
    found = experiment.hyperparameters
    assert (found.learning_rate, found.gamma, found.tau) == (0.5, 0.95, 0.5)
    assert found.policy_kwargs.net_arch == [4]


@pytest.mark.parametrize(
    ("trial", "rate", "gamma"), [("0", 3e-4, 0.0), ("2", 0.002, 0.95), ("5", "lin_0.01", 0.9)]
)
def test_a_trial_is_chosen_by_its_number(run, trial, rate, gamma):
    searched(Path("there"))
    experiment = run(best_params="there", trial=trial)
    assert experiment.hyperparameters.learning_rate == rate
    assert experiment.hyperparameters.gamma == gamma
    assert experiment.source == f"trial {trial} of there"


def test_settings_of_the_file_name_a_search_as_well(run):
    searched(Path("there"))
    experiment = run(RUN + "best_params: there\ntrial: 0\n")
    assert experiment.hyperparameters.gamma == 0.0
    assert run(RUN + "best_params: there\ntrial: best\n").hyperparameters.gamma == 0.95
    assert run(RUN + "best_params: there\ntrial: 0\n", trial="2").hyperparameters.gamma == 0.95
    assert run(RUN + "trial: best\n").hyperparameters.gamma == 0.9


def test_the_resolved_experiment_reads_back_equal_and_names_its_search(run):
    searched(Path("there"))
    experiment = run(best_params="there")
    assert experiment.source == "trial 2 of there"
    Path("there/results.json").unlink()  # a run can be read without the search
    Path("resolved.yaml").write_text(to_yaml(experiment))
    assert load(Path("resolved.yaml")) == experiment


def test_best_takes_the_newest_finished_search_of_this_algorithm_and_task(run):
    root = Path("optuna_results/plots")
    searched(root / "SAC_Pendulum-v1" / "a", 1, best_params={"gamma": 0.1})
    right = searched(root / "SAC_Pendulum-v1" / "b", 2, best_params={"gamma": 0.2})
    searched(root / "SAC_Hopper-v5" / "c", 3, env="Hopper-v5")
    searched(root / "TD3_Pendulum-v1" / "d", 4, algo="td3")
    searched(root / "SAC_Pendulum-v1" / "e", 5, finished=False)
    two_rounds = {"round": 1, "search": {"rounds": [{}, {}]}}
    searched(root / "SAC_Pendulum-v1" / "f", 6, more=two_rounds)  # the second round is not finished
    searched(root / "SAC_Pendulum-v1" / "g", 7, best_trial=None, best_params={}, best_value=None)
    (searched(root / "SAC_Pendulum-v1" / "h", 8) / "results.json").write_text("{")
    assert newest(Path("optuna_results"), "sac", "Pendulum-v1") == right / "results.json"
    experiment = run(best_params="best")
    assert experiment.hyperparameters.gamma == 0.2
    assert experiment.source == f"trial 2 of {right / 'results.json'}"


def test_best_without_a_finished_search_lists_the_searches(run):
    message = refusal(run, best_params="best")
    assert "no finished search of SAC on Pendulum-v1 under optuna_results" in message
    assert "gallop tune" in message
    folder = Path("optuna_results/plots/SAC_Pendulum-v1/a")
    searched(folder, finished=False)
    assert f"{folder} is not finished" in refusal(run, best_params="best")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"best_params": "there", "trial": "1"}, ["1: no such trial of SAC_Pendulum", "best"]),
        ({"best_params": "there", "trial": "-1"}, ["-1: no such trial"]),
        ({"best_params": "there", "trial": "6"}, ["trial 6", "has no hyper-parameters yet"]),
        ({"best_params": "there", "trial": "bets"}, ["'bets'", "number of a trial, or best"]),
        ({"best_params": "there", "trial": "true"}, ["number of a trial, or best"]),
        ({"best_params": "there", "trial": "1.5"}, ["number of a trial, or best"]),
        ({"trial": "0"}, ["requires best_params"]),
        ({"best_params": "nowhere"}, ["best_params: nowhere: ", "No such file"]),
        ({"best_params": "."}, ["results.json", "No such file"]),
        ({"best_params": "run.yaml"}, ["not valid JSON"]),
        ({"best_params": "there", "env": "Hopper-v5"},
         ["search of SAC on Pendulum-v1, not of SAC on Hopper-v5"]),
        ({"best_params": "there", "algo": "td3"}, ["search of SAC", "not of TD3"]),
        # 1 gradient step every 4 timesteps, instead of 1 per timestep.
        ({"best_params": "there", "n_envs": "4", "hyperparameters.gradient_steps": "1"},
         ["ratio of 1,", "0.25", "n_envs 4"]),
        ({"best_params": "there", "hyperparameters.utd": "2"}, ["ratio of 1,", "has 2"]),
    ],
)  # fmt: skip
def test_results_that_do_not_fit_are_refused_in_one_line(run, flags, words):
    searched(Path("there"))
    message = refusal(run, **flags)
    assert all(word in message for word in words), message


def test_an_equal_utd_ratio_is_accepted_for_any_n_envs(run):
    searched(Path("there"))
    for flags in (
        {},
        {"n_envs": "4"},
        {"n_envs": "4", "hyperparameters.gradient_steps": "4"},
        {"n_envs": "4", "hyperparameters.gradient_steps": "-1"},
        {"n_envs": "2", "hyperparameters.train_freq": "2", "hyperparameters.utd": "1"},
    ):
        experiment = run(best_params="there", **flags)
        assert experiment.hyperparameters.utd_ratio(experiment.n_envs) == 1.0


def test_the_searchs_utd_replaces_gradient_steps_in_the_file(run):
    searched(Path("there"), best_params={"gradient_steps": 2}, utd_ratio=2.0, trials=[])
    text = RUN.replace("  tau: 0.5", "  utd: 1")
    assert run(text, best_params="there").hyperparameters.gradient_steps == 2


def test_a_lower_ratio_than_the_searchs_is_refused_with_its_place_in_the_file(run):
    searched(Path("there"))
    message = refusal(
        lambda **flags: run(RUN.replace("  tau: 0.5", "  utd: 0.5"), **flags),
        best_params="there", n_envs="4",
    )  # fmt: skip
    assert "ratio of 1," in message and "0.5" in message


def test_the_command_line_reports_it_in_one_line(run, capsys):
    searched(Path("there"), study_name="\x1b[31m\n")
    assert main(["run", "run.yaml", "--best_params", "there", "--trial", "9", "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("gallop: ") and printed.err.count("\n") == 1
    assert printed.err.strip().isprintable()
    assert main(["run", "run.yaml", "--best_params", "there", "--dry-run"]) == 0


# --- damaged and hostile files -------------------------------------------------------------------


def damaged(text, run):
    Path("bad.json").write_text(text)
    return refusal(run, best_params="bad.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["not valid JSON"]),
        ("{", ["not valid JSON"]),
        ("[" * 100_000, ["not valid JSON"]),
        ('"\\u', ["not valid JSON"]),
        ("[]", ["not a JSON object"]),
        ("3", ["not a JSON object"]),
        ("null", ["not a JSON object"]),
        ("{}", ["algo is missing"]),
    ],
)
def test_a_file_that_is_not_from_a_search_is_refused(run, text, words):
    message = damaged(text, run)
    assert "bad.json: not the results of a search" in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "name",
    ["algo", "env", "study_name", "finished", "utd_ratio", "best_trial", "best_params",
     "best_value", "trials"],
)  # fmt: skip
def test_missing_keys_are_named(run, name):
    data = json.loads(write_text(results()))
    del data[name]
    assert f"{name} is missing" in damaged(json.dumps(data), run)


NAN, HUGE = float("nan"), 10**400


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"best_params": [1]}, ["best_params is '[1]'"]),
        ({"best_params": "gamma"}, ["best_params is"]),
        ({"best_params": None}, ["best_params is"]),
        ({"best_params": {"gamma": NAN}}, ["gamma", "nan"]),
        ({"best_params": {"gamma": HUGE}}, ["gamma"]),
        ({"best_params": {"ent_coef": HUGE}}, ["ent_coef"]),
        ({"best_params": {"target_entropy": HUGE}}, ["target_entropy"]),
        ({"best_params": {"target_entropy": [1]}}, ["target_entropy"]),
        ({"best_params": {"target_entropy": NAN}}, ["target_entropy"]),
        ({"best_params": {"utd": 1e308, "train_freq": 1000}}, ["utd"]),
        ({"best_params": {"learning_rate": HUGE}}, ["learning_rate"]),
        ({"best_params": {"batch_size": HUGE, "gamma": -HUGE}}, ["gamma"]),
        ({"best_params": {"gamma": {"a": {"b": 1}}}}, ["gamma"]),
        ({"best_params": {"policy_kwargs": 3}}, ["policy_kwargs"]),
        ({"best_params": {"policy_kwargs": {"net_arch": {"pi": {}}}}}, ["net_arch"]),
        ({"best_params": {"": 1}}, ["unknown setting"]),
        ({"best_params": {"..": {"..": 1}}}, ["unknown setting"]),
        ({"best_params": {"learning_rte": 1}}, ["did you mean learning_rate"]),
        ({"best_params": {"\x1b[2J": 1}}, ["\\x1b[2J"]),
        ({"best_params": {"policy": "\x1b]0;x\x07\n"}}, ["\\x1b]0;x\\x07"]),
        ({"best_params": {"policy": "os.system"}}, ["policy", "MlpPolicy"]),
        ({"best_trial": "2"}, ["best_trial is '2'"]),
        ({"best_trial": NAN}, ["best_trial is"]),
        ({"best_trial": None}, ["no trial", "has finished"]),
        ({"utd_ratio": "1"}, ["utd_ratio is '1'"]),
        ({"utd_ratio": HUGE}, ["utd_ratio is"]),
        ({"utd_ratio": NAN}, ["utd_ratio is nan"]),
        ({"utd_ratio": True}, ["utd_ratio is"]),
        ({"algo": 3}, ["algo is '3'"]),
        ({"algo": "\x1b[31m"}, ["\\x1b[31M"]),
        ({"env": ["Pendulum-v1"]}, ["env is"]),
        ({"env": "\u202e\r\n"}, ["\\u202e\\r\\n"]),
        ({"study_name": None}, ["study_name is"]),
        ({"finished": "yes"}, ["finished is 'yes'"]),
        ({"trials": {}}, ["trials is '{}'"]),
        ({"trials": [1]}, ["trials.0 is '1'"]),
        ({"trials": [{}]}, ["trials.0.number is missing"]),
        ({"trials": [{"number": 2, "hyperparameters": [1]}]}, ["trials.0.hyperparameters is"]),
        ({"trials": [{"number": 2, "hyperparameters": {}, "utd_ratio": HUGE}]},
         ["trials.0.utd_ratio is"]),
    ],
)  # fmt: skip
def test_damage_inside_gets_one_line(run, changes, words):
    message = damaged(json.dumps({**json.loads(write_text(results())), **changes}), run)
    assert all(word in message for word in words), message


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, -1, 2, HUGE, 0.5, NAN, float("inf"), 1e308]),
        st.sampled_from(["", "\x1b[2J", "lin_1e-3", "best", "\ud800", "a.b"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["gamma", "policy_kwargs", "net_arch", "number", "a.b", "\x1b", "utd"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=5,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    field=st.sampled_from([*SearchResults.__annotations__, "search", "round"]),
    inner=st.sampled_from([None, "gamma", "utd", "ent_coef", "target_entropy", "learning_rate",
                           "train_freq", "policy_kwargs", "batch_size", "policy"]),
    value=JSON,
    trial=st.sampled_from(["best", "0", "2"]),
)  # fmt: skip
def test_any_results_json_is_accepted_or_causes_one_line(run, field, inner, value, trial):
    data = json.loads(write_text(results()))
    data[field] = value if inner is None else {inner: value}
    folder = Path("optuna_results/plots/SAC_Pendulum-v1/x")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(data))
    for path in (str(folder), "best"):
        try:
            experiment = run(best_params=path, trial=trial)
        except ExperimentError as error:
            assert str(error).isprintable()
        else:
            assert to_yaml(experiment)


def test_results_read_back_equal(tmp_path):
    folder = searched(tmp_path / "there")
    assert read(folder) == results()


def test_a_nan_return_is_written_as_none(tmp_path):
    folder = searched(tmp_path / "there", best_value=NAN)
    assert "NaN" not in (folder / "results.json").read_text()
    assert read(folder).best_value is None


# --- storage URLs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        (
            "postgresql+psycopg://x:secret@127.0.0.1:1/db",
            "postgresql+psycopg://x:***@127.0.0.1:1/db",
        ),
        ("postgresql://me:se/cr:et@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:se@cret@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("mysql://h/db?user=a&password=secret&x=1", "mysql://h/db?user=a&password=***&x=1"),
        ("postgresql://me@host:5432/db", "postgresql://me@host:5432/db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("sqlite:///C:/a@b/study.db", "sqlite:///C:/a@b/study.db"),
        ("study.db", "study.db"),
    ],
)
def test_a_storages_password_is_never_written(url, shown):
    assert without_password(url) == shown
