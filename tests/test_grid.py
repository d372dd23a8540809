"""A grid: each combination is trained once, what is missing is trained, the numbers are right."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from algorithm_rows import ROWS
from conftest import StopAt

from gallop.commands.cli import main
from gallop.errors import ExperimentError, RunError
from gallop.evaluation.statistics import interquartile_mean
from gallop.execution.processes import OneMachine
from gallop.experiments.grid import from_data, load, to_yaml
from gallop.report import grid_report
from gallop.report.display import Display
from gallop.report.expected_time import Expected
from gallop.report.grid_results import read_results
from gallop.report.pages import grid_page
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.grid_folder import GridFolder
from gallop.runs import grid as grid_module
from gallop.runs import workflow
from gallop.runs.grid import RunsFailedError, run_grid, show_plan
from gallop.runs.seed_group import with_seed
from gallop.runs.stopping import Stopped

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


def copy_of(folder, tmp_path):
    """Return a copy of a grid, to change."""
    path = tmp_path / folder.path.name
    shutil.copytree(folder.path, path)
    return GridFolder(path)


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
        ({"tasks": []}, "tasks: must have at least one name"),
        ({"algorithms": {}}, "algorithms: must have at least one name"),
        ({"changes": {}}, "changes: must have at least one name"),
        ({"tasks": "Pendulum-v1"}, "must be a list of names, or a mapping of names to settings"),
        ({"tasks": [{"Pendulum-v1": {}}]}, "{'Pendulum-v1': {}}: a name must be text; to give"),
        ({"taks": ["Ant-v5"]}, "taks: unknown setting; did you mean tasks?"),
        ({"training_seeds": []}, "training_seeds: must have at least one seed"),
        ({"training_seeds": True}, "training_seeds: True: must be seeds such as 0..4, or a list"),
        ({"training_seeds": "4..0"}, "training_seeds: '4..0': 4..0 is not a valid range of seeds"),
        ({"training_seeds": [1, 1]}, "training_seeds: a seed is given twice"),
        ({"training_seeds": [0, -1]}, "training_seeds.1: -1: must be at least 0"),
        ({"training_seeds": [5_000_000_000]}, "training_seeds.0: 5000000000: must be at least 0"),
        ({"training_seeds": [0, 10**23]}, f"training_seeds.1: {10**23}: must be at least 0 and at"),
        ({"training_seeds": [0, True]}, "training_seeds.1: True: must be a whole number"),
        ({"experiment": {"algo": "sac"}}, "experiment: algo is set by algorithms"),
        ({"experiment": {1: 2}}, "experiment: 1: the name of a setting must be text"),
        ({"tasks": {"Pendulum-v1": {"training_seed": 1}}}, "training_seed is set by"),
        ({"changes": {"a/b": {}}}, "'a/b': must be a name of letters, digits, _, - and ., because"),
        ({"changes": {"x" * 101: {}}}, "must have at most 100 bytes, because it becomes a folder"),
        ({"changes": {"a": {}, "b": {}, "A": {}}}, "changes: A or a: names must differ in more"),
        ({"reference_returns": {"Pendulum-v2": 1}}, "did you mean Pendulum-v1?"),
    ],
)
def test_a_bad_grid_is_refused_on_one_line(changes, said, tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes))
    assert main(["experiment", str(path), "-f", str(tmp_path / "experiments")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error
    assert f"{path}:" in error and "--seeds" not in error
    assert not (tmp_path / "experiments").exists()


def test_a_wrong_setting_names_the_combination_and_its_line(tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    changed = {"default": {}, "odd": {"hyperparameters.policy_delai": 3}}
    path.write_text(yaml.safe_dump(SMALL | {"changes": changed}, sort_keys=False))
    assert main(["experiment", str(path), "-f", str(tmp_path / "experiments")]) == 2
    error = capsys.readouterr().err
    lines = path.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if "policy_delai" in text)
    where = f"{path}:{line}: SAC, odd on Pendulum-v1"
    assert f"{where}: hyperparameters.policy_delai: unknown setting" in error
    assert not (tmp_path / "experiments").exists()


def test_a_combination_that_cannot_be_prepared_names_the_file(tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"tasks": ["Pendulum-v1", "CartPole-v1"]}))
    assert main(["experiment", str(path), "-f", str(tmp_path / "experiments"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert f"{path}: SAC on CartPole-v1: " in error and error.count("\n") == 1
    assert not (tmp_path / "experiments").exists()


def test_files_of_another_kind_are_refused_with_the_right_command(tmp_path, capsys):
    (tmp_path / "e.yaml").write_text("algo: sac\nenv: Pendulum-v1\ntotal_timesteps: 1000\n")
    assert main(["experiment", str(tmp_path / "e.yaml")]) == 2
    assert f"gallop run {tmp_path / 'e.yaml'} trains it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--name", "../x"], "--name '../x': must be a single folder name"),
        (["--name", ""], "--name '': must be a single folder name"),
        (["--dry-run", "--prepare"], "--dry-run prints the plan and stops: leave out --prepare"),
        (["--prepare", "--engine", "ray"], "--prepare trains nothing: leave out --engine"),
        (["--prepare", "--address", "a:1"], "--prepare trains nothing: leave out --address"),
        (["--prepare", "--workers", "2"], "--prepare trains nothing: leave out --workers"),
    ],
)
def test_flags_that_do_not_fit_are_refused_on_one_line(flags, said, tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    assert main(["experiment", str(path), "-f", str(tmp_path / "experiments"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error
    assert [each.name for each in tmp_path.iterdir()] == ["grid.yaml"]


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
    folder = copy_of(done[0], tmp_path)
    cells = done[1].cells()
    page = folder.group(cells[0]).report
    page.unlink()  # as if killed before it was written
    files = [p for p in folder.path.rglob("seed-*/**/*") if p.is_file()]
    before = {path: path.stat().st_mtime_ns for path in files}
    larger = from_data(SMALL | {"training_seeds": "0..2"})
    run_grid(larger, folder.path, display=Display())
    assert "4 runs left" in " ".join(capsys.readouterr().out.split())
    assert {path: path.stat().st_mtime_ns for path in files} == before
    found = read_results(folder, larger)
    assert [run.state for run in found.runs] == ["finished"] * 12
    page.unlink()
    run_grid(larger, folder.path, display=Display())
    assert "0 runs left" in " ".join(capsys.readouterr().out.split())
    assert page.is_file()


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"algorithms": {"PPO": SMALL["algorithms"]["ppo"]}}, "algorithm sac"),
        ({"tasks": ["Pendulum-v1"]}, "task MountainCarContinuous-v0"),
        ({"changes": {"other": {}}}, "change default"),
        ({"training_seeds": [0]}, "training seed 1"),
        ({"training_seeds": "5..9", "tasks": ["Ant-v5"]}, "tasks .* and training seeds 0..1"),
    ],
)
def test_a_grid_with_less_in_it_is_refused(changes, more, done):
    folder, _ = done
    files = (folder.grid_file, folder.results, folder.summary, folder.report)
    before = [path.read_bytes() for path in files]
    with pytest.raises(RunError, match=rf"also has {more}; keep it in the file, or .* --name"):
        run_grid(from_data(SMALL | changes), folder.path, display=Display(quiet=True))
    assert [path.read_bytes() for path in files] == before


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


def test_a_folder_that_cannot_be_prepared_is_reported_and_not_listed(tmp_path, capsys):
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(SMALL | {"algorithms": {"ppo": SMALL["algorithms"]["ppo"]}}))
    command = ["experiment", str(path), "-f", str(tmp_path / "e"), "--prepare", "--quiet"]
    assert main(command) == 0
    run_list = tmp_path / "e" / "grid" / "runs.txt"
    before = run_list.read_text().splitlines()
    broken = tmp_path / "e" / "grid" / "PPO_Pendulum-v1" / "default" / "seed-1"
    shutil.rmtree(broken)
    broken.mkdir()
    (broken / "notes.txt").write_text("not a run")
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "1 of 4 runs" in error and "PPO on Pendulum-v1, seed 1: " in error
    assert error.count("\n") == 1
    assert set(before) - set(run_list.read_text().splitlines()) == {str(broken)}


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
    for cell in grid.cells():
        group = GridFolder(tmp_path / "g").group(cell)
        assert group.learning_curve.is_file() and group.report.is_file()


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
    assert "of 8 runs are finished" in output and "run the same command again to continue" in output
    assert not RunDirectory(seen[0].parent).is_locked()
    assert (tmp_path / "e" / "grid" / "report.html").is_file()


class TwoWorkers(OneMachine):
    """A machine with room for two runs."""

    def n_workers(self, asked, n_threads):
        return 2


@pytest.fixture
def hundred_minutes(monkeypatch):
    """Every run is expected to take 100 minutes."""
    expected = Expected(training=6_000.0, evaluations=0.0, rest=0.0, note="")
    monkeypatch.setattr(grid_module, "measure", lambda prepared: None)
    monkeypatch.setattr(grid_module, "expected_time", lambda prepared, speed: expected)
    monkeypatch.setattr(grid_module, "duration", lambda seconds: f"{seconds / 60:g} min")


def planned(grid, folder, capsys):
    show_plan(grid, folder, workers=None, display=Display(), place=TwoWorkers())
    return " ".join(capsys.readouterr().out.split())


def test_three_runs_of_two_workers_take_two_rounds(hundred_minutes, tmp_path, capsys):
    one = {"algorithms": {"ppo": SMALL["algorithms"]["ppo"]}, "tasks": ["Pendulum-v1"]}
    grid = from_data(SMALL | one | {"training_seeds": "0..2"})
    said = "3 runs left, about 200 min at the speed of this machine, 2 at a time"
    assert said in planned(grid, tmp_path / "g", capsys)


def test_the_last_run_of_a_grid_takes_its_whole_time(hundred_minutes, done, tmp_path, capsys):
    folder = copy_of(done[0], tmp_path)
    shutil.rmtree(folder.path / "PPO_Pendulum-v1" / "default" / "seed-1")
    said = "1 run left, about 100 min at the speed of this machine, 1 at a time"
    assert said in planned(done[1], folder.path, capsys)


def test_a_run_that_has_begun_takes_what_it_has_left(hundred_minutes, tmp_path, capsys):
    one = {"algorithms": {"ppo": SMALL["algorithms"]["ppo"]}, "tasks": ["Pendulum-v1"]}
    grid = from_data(SMALL | one | {"training_seeds": 1})
    folder = run_grid(grid, tmp_path / "g", display=Display(quiet=True), only_prepare=True)
    (run,) = folder.path.glob("*/*/seed-*")
    with pytest.raises(Stopped):
        workflow.resume(RunDirectory(run), Display(quiet=True), [StopAt(120)])
    assert "1 run left, about 50 min at the speed" in planned(grid, folder.path, capsys)


# --- what it tells -------------------------------------------------------------------------------

REFERENCES = {"reference_returns": {"Pendulum-v1": 0, "MountainCarContinuous-v0": 100}}


def test_one_seed_has_no_interval_and_no_winner(done, tmp_path):
    folder = copy_of(done[0], tmp_path)
    grid = from_data(SMALL | REFERENCES | {"training_seeds": 0})
    found = grid_report.write(folder, grid)
    summary = json.loads(folder.summary.read_text())
    for each, written in zip(found.over_tasks, summary["over_tasks"], strict=True):
        assert each.n_runs == 2
        cells = [cell for cell in grid_report.score_cells(each) if cell]
        assert all(cell.endswith(" –") for cell in cells), cells
        assert written["iqm"]["interval"] == written["mean"]["interval"] == [None, None]
        assert written["performance_profile"]["low"] is None
    improvement = summary["over_tasks"][1]["probability_of_improvement"]
    assert improvement["interval"] == [None, None]
    for written in summary["on_tasks"]:
        assert written["summary"]["iqm_interval"] == [None, None]
        assert written["arm"] == "SAC" or written["probability_of_improvement"]["interval"] == [
            None, None
        ]  # fmt: skip
    page = folder.report.read_text()
    percent = f"{100 * improvement['value']:.0f}"
    assert (
        f"with probability {percent} % (no interval: it takes two training seeds of both): these "
        "runs do not show which is better." in page
    )
    assert "pointwise" not in page and "nan" not in "".join(re.findall(r"<td.*?</td>", page))


def test_two_seeds_have_intervals(done, tmp_path):
    folder = copy_of(done[0], tmp_path)
    found = grid_report.write(folder, from_data(SMALL | REFERENCES))
    assert all("[" in cell for each in found.over_tasks for cell in grid_report.score_cells(each)
               if cell)  # fmt: skip
    assert "pointwise" in folder.report.read_text()


def test_one_arm_with_one_seed_leaves_the_comparison_without_an_interval(done, tmp_path):
    folder = copy_of(done[0], tmp_path)
    for task in SMALL["tasks"]:
        shutil.rmtree(folder.path / f"PPO_{task}" / "default" / "seed-1")
    sac, ppo = read_results(folder, from_data(SMALL | REFERENCES)).over_tasks
    assert math.isfinite(sac.iqm.interval.low) and math.isnan(ppo.iqm.interval.low)
    assert ppo.better is not None and math.isnan(ppo.better.interval.low)


def test_the_performance_profile_is_in_the_summary(done, tmp_path):
    folder = copy_of(done[0], tmp_path)
    found = grid_report.write(folder, from_data(SMALL | REFERENCES))
    written = json.loads(folder.summary.read_text())["over_tasks"]
    for each, kept in zip(found.over_tasks, written, strict=True):
        scores = np.concatenate(list(each.scores.values()))
        profile = kept["performance_profile"]
        shares = [float(np.mean(scores > threshold)) for threshold in profile["thresholds"]]
        assert profile["share"] == pytest.approx(shares)
        assert len(profile["low"]) == len(profile["high"]) == len(shares) == 101


def test_the_number_of_seeds_is_named_for_each_difference(done):
    found = read_results(*done)._replace(n_seeds={0.1: 23, 0.2: 7, 0.5: None})
    told = grid_page.seeds_in_words(found)
    assert told.endswith(
        "with the following number of training seeds per arm: 23 for 0.1, 7 for 0.2."
    )


@pytest.mark.parametrize("command", ["report", "verify"])
def test_commands_for_runs_say_what_a_grid_is(command, done, capsys):
    folder, _ = done
    assert main([command, str(folder.path)]) == 2
    error = capsys.readouterr().err
    assert "it is a grid" in error and "gallop experiment" in error and error.count("\n") == 1
