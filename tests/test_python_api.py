"""`import gallop`: every function takes str and Path alike, and takes what another one returned."""

from __future__ import annotations

import inspect
import itertools
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import small_search

import gallop
from gallop.errors import RunError
from gallop.report.display import Display

TINY = {
    "algo": "ppo",
    "env": "Pendulum-v1",
    "env_kwargs": {"max_episode_steps": 20},
    "total_timesteps": 128,
    "segment": 64,
    "milestones": [100],
    "evaluation": {"interval": 64, "n_episodes": 1},
    "hyperparameters": {"n_steps": 64, "policy_kwargs": {"net_arch": [8]}},
    "normalize": {"observations": True},
    "films": False,
    "audit": False,
    "n_threads": 1,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home):
    """A finished run, in a results folder that was given as a str."""
    experiment = gallop.experiment(preset=False, **TINY)
    return gallop.run(experiment, results=str(home / "results"), name="a", display=Display(True))


@pytest.fixture(scope="module")
def group(home):
    experiment = gallop.experiment(preset=False, **TINY)
    return gallop.run_seeds(experiment, [3], results=str(home / "results"), name="g", workers=1)


def ways(run):
    """One policy, named in every way that a user may."""
    path = run.path
    return [run, path, str(path), run.best_model, str(run.best_model), run.milestone(100).path]


def test_run_takes_a_str_and_returns_paths(run, home):
    assert run.path == home / "results" / "PPO_Pendulum-v1" / "a"
    assert isinstance(run.path, Path) and run.is_finished() and run.final_model.is_file()


def test_evaluate_takes_what_run_returns_and_any_path(run):
    found = [gallop.evaluate(what, n_episodes=2).returns for what in ways(run)]
    assert len(found[0]) == 2
    for returns in found[1:5]:
        assert np.array_equal(returns, found[0])
    milestone = gallop.evaluate(run.milestone(100), n_episodes=2).returns
    assert np.array_equal(milestone, found[5])


def test_evaluate_takes_results_and_a_normalizer_as_str(run, home):
    newest = gallop.evaluate(results=str(home / "results"), n_episodes=1).returns
    of_run = gallop.evaluate(run, n_episodes=1).returns
    assert np.array_equal(newest, of_run)
    beside = str(run.path / "best_model.normalizer.npz")
    with_normalizer = gallop.evaluate(str(run.best_model), normalizer=beside, n_episodes=1).returns
    assert np.array_equal(with_normalizer, of_run)


def test_evaluate_refuses_a_folder_that_holds_no_policy(tmp_path):
    with pytest.raises(RunError, match=str(tmp_path)):
        gallop.evaluate(str(tmp_path))


def test_watch_takes_what_run_returns_and_any_path(run, tmp_path, capfd):
    # `capfd`, since a process that has loaded MuJoCo films in a child.
    for number, what in enumerate((run, run.path, str(run.path), str(run.best_model))):
        film = tmp_path / f"{number}.mp4"
        assert gallop.watch(what, n_episodes=1, output=str(film)) == 0
        assert film.stat().st_size > 1000
    normalizer = str(run.path / "best_model.normalizer.npz")
    output = str(tmp_path / "n.mp4")
    assert gallop.watch(run, n_episodes=1, output=output, normalizer=normalizer) == 0
    shown = capfd.readouterr().out
    returns = [line for line in shown.splitlines() if " return " in line]
    assert len(returns) == 5 and len(set(returns)) == 1


def test_run_seeds_takes_a_str_and_its_runs_are_evaluated_alike(group, home):
    assert group.path == home / "results" / "PPO_Pendulum-v1" / "g"
    for one in group.runs().values():
        assert len(gallop.evaluate(one, n_episodes=1).returns) == 1


def test_a_group_is_refused_with_one_of_its_runs(group):
    for what in (group, str(group.path)):
        with pytest.raises(RunError, match=r"a group of training seeds.*choose a run.*seed-3"):
            gallop.evaluate(what)


def test_tune_takes_strs_and_an_experiment_takes_what_it_returns(tmp_path):
    data = small_search.one_round(1)
    file = small_search.write(tmp_path, data)
    last = gallop.tune(str(file), root=str(tmp_path / "o"), name="x", workers=1)
    assert last.path == tmp_path / "o" / "plots" / small_search.TASK / "x"
    assert last.results_file.is_file()
    of_search = {"algo": "sac", "env": "Pendulum-v1", "total_timesteps": 4000}
    found = [
        gallop.experiment(preset=False, best_params=named, **of_search)
        for named in (str(last.results_file), last.results_file, last.path, last)
    ]
    assert found[0].hyperparameters == found[1].hyperparameters == found[3].hyperparameters


def test_an_experiment_takes_paths_as_settings(run):
    settings = {**TINY, "total_timesteps": 64}
    found = [
        gallop.experiment(preset=False, init_from=zip_file, **settings)
        for zip_file in (run.best_model, str(run.best_model))
    ]
    assert found[0] == found[1]


def test_what_is_returned_shows_itself_in_a_line(run, group):
    assert repr(run) == f"RunDirectory('{run.path}')"
    assert repr(run.milestone(100)) == f"Milestone('{run.milestone(100).path}')"
    assert repr(group) == f"SeedGroup('{group.path}')"
    experiment = gallop.experiment(algo="ppo", env="Hopper-v5", training_seed=1, films=False)
    shown = repr(experiment)
    assert shown.startswith("PPOExperiment(algo='ppo', env='Hopper-v5', total_timesteps=")
    assert "training_seed=1" in shown and "films=False" in shown and "gamma=0.999" in shown
    assert "watchdog" not in shown, "only what differs from the defaults"
    episodes = gallop.evaluate(run, n_episodes=2)
    mean = episodes.returns.mean()
    assert repr(episodes).startswith(f"Episodes(2 episodes, mean return {mean:,.1f}, seeds ")
    assert "\n" not in repr(episodes) and len(repr(episodes)) < 100


FUNCTIONS = [name for name in gallop.__all__ if name.islower()]
OFFERED = [getattr(gallop, name) for name in FUNCTIONS]


@pytest.mark.parametrize("function", OFFERED, ids=FUNCTIONS)
def test_every_argument_of_a_public_function_is_documented(function):
    text = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Raises:", "Example:"):
        assert f"\n{section}\n" in text, section
    arguments = text.partition("\nArgs:\n")[2].partition("\nReturns:\n")[0]
    found = re.findall(r"^    \**(\w+): ", arguments, re.MULTILINE)
    assert found == list(inspect.signature(function).parameters)
    # As Sphinx reads it: "Returns: text: more" makes a type of text, and `a <b>` a link to b.
    returned = text.partition("\nReturns:\n")[2].partition("\n")[0]
    assert ": " not in returned
    assert not re.search(r"(?<!`)`[^`\n]*<[^`\n]*>`(?!`)", text)


def test_every_argument_of_a_public_class_is_documented():
    (name,) = set(gallop.__all__) - set(FUNCTIONS)
    made = getattr(gallop, name)
    text = inspect.getdoc(made.__init__)
    found = re.findall(r"^    (\w+): ", text.partition("Args:\n")[2], re.MULTILINE)
    assert [*found] == list(inspect.signature(made).parameters)
    assert name == "RayCluster"


def example_of(function):
    """The code below `Example:` in a docstring."""
    text = inspect.getdoc(function).partition("\nExample:\n")[2].partition("::\n")[2]
    lines = itertools.takewhile(lambda line: line[:1] in ("", " "), text.splitlines())
    return textwrap.dedent("\n".join(lines))


def test_the_examples_of_public_functions_run(tmp_path, monkeypatch):
    """In one folder, one after the other, as a reader may try them."""
    monkeypatch.chdir(tmp_path)
    names = {"experiment", "make_env", "run", "evaluate", "watch", "run_seeds", "tune"}
    assert names == set(FUNCTIONS)
    for name in ("experiment", "make_env", "run", "evaluate", "watch", "run_seeds", "tune"):
        code = example_of(getattr(gallop, name))
        assert f"gallop.{name}(" in code
        exec(compile(code, f"<example of {name}>", "exec"), {"__name__": "example"})
    assert len(list(tmp_path.glob("results/PPO_Pendulum-v1/*/**/best_model.zip"))) == 3
    assert (tmp_path / "pendulum.mp4").is_file()
    assert len(list(tmp_path.glob("optuna_results/plots/*/*/results.json"))) == 1
