"""Arguments of tasks and wrappers: stored unchanged, or refused before the run."""

from __future__ import annotations

import datetime
import enum
import json
import math
from pathlib import Path

import gallop_argument_task
import numpy as np
import pytest
import yaml
from conftest import tiny
from hypothesis import given
from hypothesis import strategies as st

import gallop
from gallop.commands.cli import main
from gallop.environments.make import make_env
from gallop.errors import ExperimentError
from gallop.experiments import yaml_text
from gallop.experiments.yaml_file import from_dict, load, settings_of, to_yaml
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.prepared import prepare
from gallop.runs import seed_group, workflow
from gallop.strict_json import dumps

TASK = "gallop_argument_task:Range-v0"
BASE = {"algo": "sac", "env": "Pendulum-v1", "total_timesteps": "8000"}


def arguments(value):
    return from_dict({**BASE, "env_kwargs": value}).env_kwargs


def written_and_read(experiment, folder):
    (folder / "experiment.yaml").write_text(to_yaml(experiment), encoding="utf-8")
    return load(folder / "experiment.yaml")


def test_arguments_read_back_equal(tmp_path):
    nested = {
        "range": [-1.0, math.inf, -math.inf, math.nan],
        "weights": {0: 1.0, 2.5: None, math.inf: [True, {}], True: "x", None: []},
        "words": ["1e-5", "on", "null", "010", "1:30", "2020-01-01", "<<", "=", "", " a: b\t", "é"],
        "lines": "a\nb\r\nc\x85d\u2028e\0f",
    }
    wrapper = {"a.b:C": {"x": (1, (math.inf, {1: 1e-5}))}}
    experiment = from_dict({**BASE, "env_kwargs": nested, "wrappers": [wrapper]})
    again = written_and_read(experiment, tmp_path)
    assert repr(settings_of(again)) == repr(settings_of(experiment))
    assert repr(again.env_kwargs) == repr(nested)
    assert again.wrappers[0] == {"a.b:C": {"x": [1, [math.inf, {1: 1e-5}]]}}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["1e-5", "-1E5", "0o17", "1_0", ".5", "+.inf", "no", "~", "1:2", "- a", "#"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.integers() | st.text(max_size=4) | st.booleans(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(plain)
def test_yaml_values_read_back_equal_in_both_versions(value):
    text = yaml_text.write({"x": value})
    assert repr(yaml_text.read(text)) == repr({"x": value})
    assert repr(yaml.safe_load(text)) == repr({"x": value}), "YAML 1.1 reads the same"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("-1E+5", -1e5), ("1.5e3", 1500.0), (".5", 0.5), ("1.", 1.0),
        ("400_000", 400_000), ("010", 10), ("0o17", 15), ("0x1F", 31), ("-.inf", -math.inf),
        ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("=", "="), ("1_", "1_"),
        ("{on: 1, no: 2}", {"on": 1, "no": 2}), ("[yes, off, true]", [True, False, True]),
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}), ("'1e-5'", "1e-5"), ("~", None),
    ],
)  # fmt: skip
def test_plain_scalars_follow_yaml_1_2(text, value):
    found = yaml_text.read(text)
    assert (found, type(found)) == (value, type(value))


def test_numpy_numbers_and_tuples_become_python_numbers_and_lists():
    given_ = {"a": np.float64(0.5), "b": (np.int64(3), np.bool_(True)), "c": np.str_("x")}
    found = arguments(given_)
    assert found == {"a": 0.5, "b": [3, True], "c": "x"}
    assert [type(v) for v in (found["a"], *found["b"], found["c"])] == [float, int, bool, str]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"start": datetime.date(2020, 1, 1)}, ["start", "datetime.date", "as text"]),
        ({"a": {"b": [b"x"]}}, ["a.b.0", "bytes"]),
        ({"a": {1, 2}}, ["a: a set", "as a list"]),
        ({"a": np.zeros(3)}, ["a: a numpy.ndarray", "to a list"]),
        ({"a": {(1, 2): 3}}, ["a: the key (1, 2)"]),
        ({"a": object()}, ["a: a object", "numbers, text"]),
        ({"a": "x" * 20_001}, ["more than 20,000 characters"]),
    ],
)
def test_values_that_yaml_cannot_hold_are_refused_before_anything_is_written(value, words):
    with pytest.raises(ExperimentError) as caught:
        prepare(from_dict({**BASE, "env_kwargs": value}))
    message = str(caught.value)
    assert all(word in message for word in words) and "\n" not in message, message


def test_a_path_is_stored_as_text():
    experiment = from_dict(
        {"algo": "ppo", "env": "Ant-v5", "total_timesteps": 2048, "milestones": [100],
         "env_kwargs": {"xml_file": Path("robots") / "ant.xml"}}
    )  # fmt: skip
    assert experiment.env_kwargs == {"xml_file": str(Path("robots") / "ant.xml")}


class Gait(enum.Enum):
    TROT = "trot"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str):
    def __str__(self):
        return "something else"


class Metres(float):
    pass


def test_enumerations_and_custom_strings_and_numbers_are_stored_as_their_values():
    given_ = {"gait": Gait.TROT, Word("level"): [Level.HIGH], "word": Word("w"), "m": Metres(0.5)}
    found = arguments(given_)
    assert found == {"gait": "trot", "level": [3], "word": "w", "m": 0.5}
    parts = (*found, found["gait"], *found["level"], found["word"], found["m"])
    assert [type(part) for part in parts] == [str] * 5 + [int, str, float]


def test_a_circular_reference_is_refused():
    circle = []
    circle.append(circle)
    with pytest.raises(ExperimentError, match="contains itself"):
        arguments({"a": circle})


def test_an_experiment_that_was_changed_in_place_is_not_written():
    experiment = from_dict({**BASE, "env_kwargs": {"a": 1}})
    experiment.env_kwargs["a"] = {1}
    with pytest.raises(ExperimentError, match="a set"):
        to_yaml(experiment)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{mode: off}", "off can mean text or false: write 'off' in quotes, or false"),
        ("{a: {b: [Yes]}}", "Yes can mean text or true"),
    ],
)
def test_ambiguous_words_are_refused_in_arguments(text, words, tmp_path):
    with pytest.raises(ExperimentError) as caught:
        load(None, {**BASE, "env_kwargs": text})
    assert str(caught.value) == f"env_kwargs: {words}" or words in str(caught.value)
    file = tmp_path / "a.yaml"
    file.write_text(f"algo: sac\nenv: Pendulum-v1\ntotal_timesteps: 8000\nenv_kwargs: {text}\n")
    with pytest.raises(ExperimentError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}:4: env_kwargs: ") and words in str(caught.value)


def test_settings_still_accept_yes_and_no():
    assert load(None, {**BASE, "films": "no"}).films is False
    kept = load(None, {**BASE, "env_kwargs": "{mode: 'off', on: true}"}).env_kwargs
    assert kept == {"mode": "off", "on": True}


def test_a_task_cannot_change_the_experiment():
    kwargs = {"limits": [0.0, 1.0]}
    for _ in range(2):
        make_env("gallop_argument_task:Changes-v0", seed=None, **kwargs).close()
    assert kwargs == {"limits": [0.0, 1.0]}


def test_every_training_seed_gets_the_same_arguments():
    experiment = from_dict({**BASE, "env_kwargs": {"a": {0: math.inf}}})
    assert seed_group.with_seed(experiment, 3).env_kwargs == {"a": {0: math.inf}}


def test_json_has_no_words_that_other_readers_do_not_know():
    text = dumps({"a": [math.inf, -math.inf, math.nan], 1: {None: 2.5, math.inf: True}})
    strict = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert strict == {
        "a": ["Infinity", "-Infinity", "NaN"],
        "1": {"null": 2.5, "Infinity": True},
    }
    assert [float(x) for x in strict["a"][:2]] == [math.inf, -math.inf]


def test_a_run_its_film_and_its_evaluation_get_the_same_arguments(tmp_path, capsys):
    kwargs = {"limits": [-1.0, math.inf], "weights": {0: 1.0, "b": 1e-5}, "start": "2020-01-01"}
    gallop_argument_task.GIVEN.clear()
    experiment = tiny(
        "ppo", env=TASK, env_kwargs=kwargs, total_timesteps=240, films=True,
        evaluation={"interval": 120, "n_episodes": 1},
    )  # fmt: skip
    run = workflow.run(experiment, tmp_path, "a")
    workflow.resume(RunDirectory(run.path))
    assert main(["evaluate", str(run.path), "--episodes", "1"]) == 0
    assert len(gallop_argument_task.GIVEN) > 4
    assert all(found == kwargs for found in gallop_argument_task.GIVEN)
    assert run.milestone(100).film.exists(), run.milestone(100).read_meta()["missing"]
    for file in run.path.rglob("*.json"):
        json.loads(file.read_text(), parse_constant=lambda word: pytest.fail(word))


# --- evaluate, watch, baseline ---

HOPPER = {"exclude_current_positions_from_observation": False, "max_episode_steps": 50}


@pytest.fixture
def hopper_zip(trainers, tmp_path):
    """A policy of twelve observations, outside of any run folder."""
    trainer = trainers(tiny("sac", env="Hopper-v5", env_kwargs=HOPPER))
    file = tmp_path / "alone.zip"
    trainer.learner.save_policy(file)
    return file


def test_a_single_zip_is_evaluated_with_the_arguments_of_its_training(hopper_zip, capsys):
    command = ["evaluate", str(hopper_zip), "--env", "Hopper-v5", "--episodes", "2"]
    flags = ["--env-kwargs", "{exclude_current_positions_from_observation: false, "]
    flags[1] += "healthy_z_range: [0.0, .inf], max_episode_steps: 20}"
    assert main(command) == 0
    assert (
        "the remaining time (if it is not, pass the right --env-kwargs" in capsys.readouterr().out
    )
    assert main([*command, *flags]) == 0
    assert "the remaining time" not in capsys.readouterr().out
    assert main([*command, "--env-kwargs", "{nonsense: 1}"]) == 2
    assert "Hopper-v5 has no keyword argument 'nonsense'" in capsys.readouterr().err
    kwargs = {**HOPPER, "healthy_z_range": (0.0, math.inf), "max_episode_steps": 20}
    episodes = gallop.evaluate(hopper_zip, env="Hopper-v5", n_episodes=2, env_kwargs=kwargs)
    assert episodes.lengths.max() <= 20


def test_a_single_zip_is_evaluated_with_its_wrappers(trainers, tmp_path, capsys):
    stack = "gymnasium.wrappers:FrameStackObservation"
    wrappers = [{stack: {"stack_size": 2}}, "gallop_wrappers:Halved"]
    trainer = trainers(tiny("sac", wrappers=wrappers))
    trainer.learner.save_policy(tmp_path / "a.zip")
    ours = gallop.evaluate(tmp_path / "a.zip", env="Pendulum-v1", n_episodes=1, wrappers=wrappers)
    assert ours.lengths.tolist() == [200]
    flag = f"[{stack}: {{stack_size: 2}}, gallop_wrappers:Halved]"
    command = ["evaluate", str(tmp_path / "a.zip"), "--env", "Pendulum-v1", "--episodes", "1"]
    assert main([*command, "--wrappers", flag]) == 0
    assert "gallop_wrappers:Halved changes them in training" in capsys.readouterr().out
    refused = "[gymnasium.wrappers:NormalizeObservation]"
    assert main([*command, "--wrappers", refused]) == 2
    assert "running statistics" in capsys.readouterr().err


def test_the_baseline_and_a_film_accept_arguments_too(trainers, tmp_path, capsys):
    gallop_argument_task.GIVEN.clear()
    flags = ["--env-kwargs", "{limits: [-.inf, .inf], weights: {0: 1e-5}}"]
    assert main(["baseline", "--env", TASK, "--episodes", "2", *flags]) == 0
    trainer = trainers(tiny("sac", env=TASK))
    trainer.learner.save_policy(tmp_path / "a.zip")
    gallop_argument_task.GIVEN.clear()
    film = tmp_path / "a.mp4"
    command = ["watch", str(tmp_path / "a.zip"), "--env", TASK, "-o", str(film)]
    assert main([*command, "--episodes", "1", *flags]) == 0
    assert film.exists()
    expected = {"limits": [-math.inf, math.inf], "weights": {0: 1e-5}, "start": None}
    assert gallop_argument_task.GIVEN and all(g == expected for g in gallop_argument_task.GIVEN)


def test_arguments_extend_those_of_a_run_and_wrappers_replace_them():
    from gallop.environments.make import Task
    from gallop.experiments.yaml_file import task_arguments
    from gallop.run_folder.find_policy import with_arguments

    own = ({"gallop_wrappers:Halved": {}},)
    task = Task("Pendulum-v1", {"g": 9.0, "max_episode_steps": 50}, own)
    given_ = task_arguments({"env_kwargs": {"g": 1.0}, "wrappers": None})
    assert with_arguments(task, given_) == Task(
        "Pendulum-v1", {"g": 1.0, "max_episode_steps": 50}, task.wrappers
    )
    assert with_arguments(task, task_arguments({"wrappers": []})).wrappers == ()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--env-kwargs", "[1]"], "env_kwargs: [1]: must be a mapping"),
        (["--env-kwargs", "{a: !!set {1}}"], "env_kwargs: a: a set cannot be stored"),
        (["--env-kwargs", "{mode: on}"], "env_kwargs: on can mean text or true"),
        (["--wrappers", "[nowhere]"], "must be an import path, such as package.module:Class"),
    ],
)
@pytest.mark.parametrize("command", ["evaluate", "baseline", "watch"])
def test_bad_arguments_get_one_line(command, flags, words, capsys, tmp_path):
    assert main([command, *flags, "--env", "Pendulum-v1"]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1


def test_a_search_stores_the_arguments_of_its_task(tmp_path):
    from gallop.tuning import search

    file = tmp_path / "search.yaml"
    file.write_text(
        "experiment: {algo: sac, env: Pendulum-v1, total_timesteps: 4000,\n"
        "  env_kwargs: {a: [.inf, 1e-5], 0: 1}}\n"
        "rounds: [{n_trials: 1, space: {gamma: {low: 0.9, high: 0.99}}}]\n"
    )
    with pytest.raises(ExperimentError, match="env_kwargs"):  # a keyword is text
        search.load(file).trial_experiment(0, {}, 0)
    file.write_text(file.read_text().replace(", 0: 1", ", b: {0: 1}"))
    found = search.load(file)
    (tmp_path / "again.yaml").write_text(search.to_yaml(found))
    again = search.load(tmp_path / "again.yaml")
    assert again == found
    expected = {"a": [math.inf, 1e-5], "b": {0: 1}}
    assert again.trial_experiment(0, {}, 0).env_kwargs == expected
