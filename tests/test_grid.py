"""A grid: each combination is trained once, what is missing is trained, the numbers are right."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from algorithm_rows import ROWS

from gallop.commands.cli import main
from gallop.errors import ExperimentError
from gallop.evaluation.statistics import interquartile_mean
from gallop.experiments.grid import from_data, load, to_yaml
from gallop.report.display import Display
from gallop.report.grid_results import read_results
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.grid_folder import GridFolder
from gallop.runs import workflow
from gallop.runs.grid import RunsFailedError, run_grid
from gallop.runs.seed_group import with_seed

TASK = {"max_episode_steps": 50}
SMALL = {
    "experiment": {
        "env_kwargs": TASK,
        "total_timesteps": 240,
        "segment": 120,
        "milestones": [100],
        "evaluation": {"interval": 120, "n_episodes": 2},
        "films": False,
        "audit": False,
        "n_threads": 1,
        "hyperparameters.policy_kwargs.net_arch": [16],
    },
    "algorithms": {name: {"hyperparameters": ROWS[name].tiny} for name in ("sac", "ppo")},
    "tasks": {"Pendulum-v1": {}, "MountainCarContinuous-v0": None},
    "training_seeds": "0..1",
    "presets": False,
}


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].tobytes() for name in file}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A grid of eight runs, trained in processes."""
    folder = tmp_path_factory.mktemp("experiments") / "small"
    grid = from_data(SMALL)
    return run_grid(grid, folder, display=Display(quiet=True)), grid


def final_returns(run):
    with (run / "episodes.csv").open(newline="") as file:
        return [float(r["return"]) for r in csv.DictReader(file) if r["policy"] == "final"]


# --- the file ------------------------------------------------------------------------------------


def test_settings_of_task_algorithm_and_change_come_on_top_of_each_other():
    grid = from_data(
        {
            "experiment": {"total_timesteps": 1_000, "hyperparameters": {"gamma": 0.9}},
            "algorithms": {"SAC": {"hyperparameters.gamma": 0.92}, "td3": None},
            "tasks": {"Pendulum-v1": {"hyperparameters": {"gamma": 0.91, "tau": 0.5}}},
            "changes": {"default": {}, "far": {"hyperparameters": {"gamma": 0.99}}},
            "training_seeds": 3,
            "presets": False,
        }
    )
    found = {
        (cell.algo, cell.change): cell.experiment.hyperparameters.gamma for cell in grid.cells()
    }
    assert found == {
        ("sac", "default"): 0.92,
        ("sac", "far"): 0.99,
        ("td3", "default"): 0.91,
        ("td3", "far"): 0.99,
    }
    assert {cell.experiment.hyperparameters.tau for cell in grid.cells()} == {0.5}
    assert {cell.experiment.training_seed for cell in grid.cells()} == {3}


def test_a_preset_is_below_all_settings():
    data = {
        "experiment": {"total_timesteps": 20_000, "films": False},
        "algorithms": ["ppo"],
        "tasks": ["Hopper-v5"],
        "training_seeds": [0],
    }
    (cell,) = from_data(data).cells()
    assert cell.experiment.hyperparameters.gamma == 0.999
    (plain,) = from_data(data | {"presets": False}).cells()
    assert plain.experiment.hyperparameters.gamma == 0.99


def test_a_grid_is_read_back_as_it_was(tmp_path):
    grid = from_data(SMALL)
    path = tmp_path / "grid.yaml"
    path.write_text(to_yaml(grid))
    assert load(path) == grid
    assert [c.experiment for c in load(path).cells()] == [c.experiment for c in grid.cells()]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algorithms": ["sac", "tb3"]}, "algorithms: 'tb3' is unknown; did you mean td3?"),
        ({"algorithms": ["sac", "SAC"]}, "algorithms: sac or SAC: an algorithm is given twice"),
        ({"algorithms": ["sac", "sac"]}, "sac is given twice"),
        ({"tasks": []}, "tasks"),
        ({"taks": ["Ant-v5"]}, "taks: unknown setting; did you mean tasks?"),
        ({"training_seeds": "4..0"}, "4..0 is not a valid range of seeds"),
        ({"training_seeds": [1, 1]}, "training_seeds: a seed is given twice"),
        ({"experiment": {"algo": "sac"}}, "experiment: algo is set by algorithms"),
        ({"tasks": {"Pendulum-v1": {"training_seed": 1}}}, "training_seed is set by"),
        ({"changes": {"a/b": {}}}, "changes: 'a/b': must be a name"),
        ({"reference_returns": {"Pendulum-v2": 1}}, "did you mean Pendulum-v1?"),
    ],
)
def test_a_bad_grid_is_refused_on_one_line(changes, said, tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes))
    assert main(["experiment", str(path), "-f", str(tmp_path / "experiments")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error
    assert not (tmp_path / "experiments").exists()


def test_a_wrong_setting_names_the_combination(tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    changed = {"default": {}, "odd": {"hyperparameters.policy_delai": 3}}
    path.write_text(yaml.safe_dump(SMALL | {"changes": changed}, sort_keys=False))
    assert main(["experiment", str(path), "-f", str(tmp_path / "experiments")]) == 2
    error = capsys.readouterr().err
    assert "SAC, odd on Pendulum-v1: hyperparameters.policy_delai: unknown setting" in error
    assert not (tmp_path / "experiments").exists()


def test_files_of_another_kind_are_refused_with_the_right_command(tmp_path, capsys):
    (tmp_path / "e.yaml").write_text("algo: sac\nenv: Pendulum-v1\ntotal_timesteps: 1000\n")
    assert main(["experiment", str(tmp_path / "e.yaml")]) == 2
    assert f"gallop run {tmp_path / 'e.yaml'} trains it" in capsys.readouterr().err


# --- the runs ------------------------------------------------------------------------------------


def test_each_run_equals_one_trained_alone(done, tmp_path):
    folder, grid = done
    cell = next(c for c in grid.cells() if (c.algo, c.env) == ("ppo", "MountainCarContinuous-v0"))
    experiment = with_seed(cell.experiment, 1)
    alone = workflow.run(experiment, tmp_path, "alone", Display(quiet=True))
    ours = folder.group(cell).run(1)
    assert ours.read_experiment() == experiment
    for name in ("evaluations.npz", "random_baseline_rewards.npz"):
        assert arrays(ours.path / name) == arrays(alone.path / name)
    assert final_returns(ours.path) == final_returns(alone.path)


def test_the_numbers_match_the_episodes_of_the_runs(done):
    folder, grid = done
    with folder.results.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and {row["state"] for row in rows} == {"finished"}
    returns = {}
    for row in rows:
        run = folder.path / f"{row['algo'].upper()}_{row['task']}" / row["change"]
        mean = np.mean(final_returns(run / f"seed-{row['training_seed']}"))
        assert float(row["final_return"]) == pytest.approx(mean)
        returns.setdefault((row["arm"], row["task"]), []).append(mean)
    summary = json.loads(folder.summary.read_text())
    for task in grid.tasks:
        best = max(np.mean(returns[arm, task]) for arm in ("SAC", "PPO"))
        assert summary["reference_return"][task] == pytest.approx(best)
    low, high = summary["random_return"], summary["reference_return"]
    for each in summary["over_tasks"]:
        scores = [
            (value - low[task]) / (high[task] - low[task])
            for task in grid.tasks
            for value in returns[each["arm"], task]
            if high[task] > low[task]
        ]
        assert each["n_runs"] == len(scores)
        assert each["iqm"]["value"] == pytest.approx(float(interquartile_mean(scores)))
    page = folder.report.read_text()
    for words in ("Performance profile", "Pendulum-v1", "MountainCarContinuous-v0", "SAC", "PPO"):
        assert words in page


def test_started_again_it_trains_only_what_is_missing(done, tmp_path, capsys):
    folder, grid = done
    files = [p for p in folder.path.rglob("seed-*/**/*") if p.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    larger = from_data(
        SMALL | {"training_seeds": "0..2", "algorithms": {"ppo": SMALL["algorithms"]["ppo"]}}
    )
    run_grid(larger, folder.path, display=Display())
    assert "2 runs left" in " ".join(capsys.readouterr().out.split())
    assert {path: path.stat().st_mtime_ns for path in files} == before
    found = read_results(folder, larger)
    assert [run.state for run in found.runs] == ["finished"] * 6
    run_grid(grid, folder.path, display=Display(quiet=True))  # the smaller one is still complete
    assert len(read_results(folder, grid).runs) == 8


def test_another_grid_in_the_same_folder_is_refused(done):
    folder, _ = done
    other = SMALL | {"experiment": SMALL["experiment"] | {"log_interval": 7}}
    with pytest.raises(ExperimentError, match=r"holds runs with log_interval .* --name"):
        run_grid(from_data(other), folder.path, display=Display(quiet=True))


def test_prepared_runs_can_be_trained_one_by_one(tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"algorithms": {"ppo": SMALL["algorithms"]["ppo"]}}))
    command = ["experiment", str(path), "-f", str(tmp_path / "e")]
    assert main([*command, "--prepare", "--quiet"]) == 0
    listed = (tmp_path / "e" / "grid" / "runs.txt").read_text().splitlines()
    assert len(listed) == 4
    for each in listed:
        assert main(["run", "--quiet", "--resume", each]) == 0
    assert main([*command, "--prepare"]) == 0
    assert "0 runs left" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "e" / "grid" / "runs.txt").read_text() == ""
    assert main([*command, "--quiet"]) == 0
    assert (tmp_path / "e" / "grid" / "report.html").is_file()


def test_a_failing_combination_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    grid = from_data(
        SMALL
        | {
            "algorithms": {"sac": SMALL["algorithms"]["sac"]},
            "tasks": {"gallop_breaking_task:Breaking-v0": {"env_kwargs": {}}, "Pendulum-v1": {}},
        }
    )
    with pytest.raises(RunsFailedError, match=r"1 of 4 runs .*Breaking-v0, seed 1: .*a leg broke"):
        run_grid(grid, tmp_path / "g", display=Display(quiet=True))
    states = [run.state for run in read_results(GridFolder(tmp_path / "g"), grid).runs]
    assert states == ["finished", "begun", "finished", "finished"]


def test_a_stopped_grid_says_so_and_goes_on(tmp_path):
    path = tmp_path / "grid.yaml"
    longer = SMALL["experiment"] | {"total_timesteps": 6_000}
    path.write_text(yaml.safe_dump(SMALL | {"experiment": longer}))
    command = [sys.executable, "-m", "gallop", "experiment", str(path), "-f", str(tmp_path / "e")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        seen = list((tmp_path / "e").glob("grid/*/*/seed-*/evaluations.npz"))
        while not seen:
            assert first.poll() is None
            time.sleep(0.05)
            seen = list((tmp_path / "e").glob("grid/*/*/seed-*/evaluations.npz"))
        first.send_signal(signal.SIGTERM)
        output = first.communicate(timeout=60)[0]
    assert first.returncode == 143
    assert "of 8 runs are finished" in output and "the same command goes on" in output
    assert not RunDirectory(seen[0].parent).is_locked()
    assert (tmp_path / "e" / "grid" / "report.html").is_file()
