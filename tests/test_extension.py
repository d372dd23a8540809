"""An extended run is bit-identical to one planned at that length; missing milestones are listed."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny

from gallop.algorithms.table import ALGORITHMS
from gallop.errors import ExperimentError, RunError
from gallop.policies import sb3_zip
from gallop.report.display import Display
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.runs import workflow
from gallop.runs.extend import CHANGEABLE, extend, longer

CONSTANT = {"learning_rate": 1e-3}
DOCS = Path(__file__).parents[1] / "docs"


def experiment(algo, total, milestones, **settings):
    hyperparameters = {**CONSTANT, **settings.pop("hyperparameters", {})}
    return tiny(
        algo,
        hyperparameters,
        total_timesteps=total,
        milestones=milestones,
        log_interval=1,
        **settings,
    )


def run(what, results, name):
    return workflow.run(what, results, name, Display(quiet=True))


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file}


def rows(path, without=()):
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in without} for row in csv.DictReader(file)]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_an_extended_run_equals_one_planned_at_that_length(algo, tmp_path):
    settings = {"normalize": algo != "td3"}
    whole = run(experiment(algo, 480, [25, 50, 100], **settings), tmp_path, "whole")
    short = run(experiment(algo, 120, [100], **settings), tmp_path, "short")
    before = {path: path.read_bytes() for path in short.path.rglob("*") if path.is_file()}
    longer = extend(
        short,
        {"total_timesteps": 480, "milestones": [25, 50, 100]},
        results=tmp_path,
        name="longer",
        display=Display(quiet=True),
    )
    for name in ("evaluations.npz", "random_baseline_rewards.npz"):
        ours, theirs = arrays(longer.path / name), arrays(whole.path / name)
        assert sorted(ours) == sorted(theirs)
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])
    clock = ("time/fps", "time/time_elapsed")
    progress = [rows(r.path / "progress.csv", clock) for r in (longer, whole)]
    assert progress[0] == progress[1] != []
    key = lambda row: (row["timestep"], row["policy"], row["seed"])  # noqa: E731
    episodes = [sorted(rows(r.path / "episodes.csv"), key=key) for r in (longer, whole)]
    assert episodes[0] == episodes[1]
    for name in ("final_model.zip", "best_model.zip"):
        ours = sb3_zip.read_training(longer.path / name)
        theirs = sb3_zip.read_training(whole.path / name)
        for tensor in theirs.tensors:
            np.testing.assert_array_equal(ours.tensors[tensor], theirs.tensors[tensor])
    for percent, timestep in ((25, 120), (50, 240), (100, 480)):
        metas = [r.milestone(percent).read_meta() for r in (longer, whole)]
        assert metas[0]["steps"] == metas[1]["steps"] == timestep
        assert metas[0]["return"] == metas[1]["return"]
    after = {path: path.read_bytes() for path in before}
    assert before == after, "the run that was extended is left as it was"
    record = json.loads((longer.path / "provenance.json").read_text())
    assert record["extends"]["timestep"] == 120 and record["extends"]["run"] == str(short.path)
    assert record["resumes"] == []


def test_a_milestone_not_saved_by_the_original_run_is_listed_as_missing(tmp_path, capsys):
    short = run(experiment("ppo", 240, [100]), tmp_path, "short")
    extend(
        short,
        {"total_timesteps": 480, "milestones": [25, 50, 100]},
        results=tmp_path,
        name="longer",
    )
    longer = RunDirectory(short.path.with_name("longer"))
    meta = longer.milestone(25).read_meta()
    assert (
        meta["steps"] == 120
        and "saved no milestone at timestep 120" in meta["missing"]["model.zip"]
    )
    assert not longer.milestone(25).model.exists()
    assert longer.milestone(50).model.exists() and longer.milestone_bars.exists()
    shown = capsys.readouterr().out
    assert "extending" in shown and "timestep 240" in shown
    table = shown.split("\npolicy  timestep ")[1]
    assert "\n25 % " not in table and "\n50 % " in table


def test_leftovers_of_a_run_are_not_copied(finished, tmp_path):
    replay = finished.state / "replay"  # PPO has no replay buffer
    replay.mkdir()
    leftovers = [replay / "0.damaged", finished.state / ".new-1", replay / ".new-2"]
    leftovers[0].write_bytes(b"damaged")
    for folder in leftovers[1:]:
        folder.mkdir()
    change = {"total_timesteps": 480}
    longer = extend(finished, change, results=tmp_path, name="a", display=Display(quiet=True))
    assert not [p for p in longer.state.rglob("*") if p.suffix == ".damaged" or ".new-" in str(p)]
    assert leftovers[0].exists()
    shutil.rmtree(replay)
    leftovers[1].rmdir()


def test_a_stopped_extension_resumes(tmp_path):
    whole = run(experiment("sac", 360, [100]), tmp_path, "whole")
    short = run(experiment("sac", 120, [100]), tmp_path, "short")

    class Stop(Display):
        def evaluated(self, timestep, mean_return):
            if timestep == 240:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extend(
            short,
            {"total_timesteps": 360},
            results=tmp_path,
            name="longer",
            display=Stop(quiet=True),
        )
    longer = RunDirectory(short.path.with_name("longer"))
    assert resume_state.newest_boundary(longer.state).timestep == 120
    workflow.resume(longer, Display(quiet=True))
    ours = sb3_zip.read_training(longer.final_model).tensors
    theirs = sb3_zip.read_training(whole.final_model).tensors
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(experiment("ppo", 120, [100]), tmp_path_factory.mktemp("runs"), "a")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({}, r"more than 120 timesteps, such as -n 240"),
        ({"total_timesteps": 120}, "total_timesteps: 120 must be more than the 120"),
        ({"total_timesteps": 100}, "total_timesteps: 100 must be more than the 120"),
        ({"total_timesteps": 250}, r"250 does not .* multiples of .* 120; nearest .*: 240, 360$"),
        (
            {"total_timesteps": 250, "milestones": [25, 50, 100]},
            r"nearest total that fits: 480; --milestones \[100\] allows any multiple of 120",
        ),
        (
            {"total_timesteps": 480, "evaluation.interval": 200},
            r"200 must be a multiple of the segment of the finished run, 120; nearest: 120, 240",
        ),
        (
            {"total_timesteps": 240, "hyperparameters.gamma": 0.9},
            r"--hyperparameters\.gamma cannot",
        ),
        ({"total_timesteps": 240, "segment": 60}, r"--segment cannot be changed"),
    ],
)
def test_invalid_extensions_are_refused(finished, overrides, words, tmp_path):
    with pytest.raises(ExperimentError, match=words):
        extend(finished, overrides, results=tmp_path, display=Display(quiet=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("total", [240, 360])
def test_the_totals_that_a_refusal_names_fit(finished, total):
    before = finished.read_experiment()
    after = longer(before, {"total_timesteps": total}, new_horizon=False)
    same = ("segment", "milestones", "evaluation")
    assert after.total_timesteps == total
    assert all(getattr(after, name) == getattr(before, name) for name in same)


@pytest.mark.parametrize("page", ["guides/resume.md", "decisions/11-longer-runs-and-beginnings.md"])
def test_the_pages_list_the_settings_that_may_change(page):
    text = " ".join((DOCS / page).read_text().split())
    *others, last = (f"`{name}`" for name in CHANGEABLE)
    assert f"{', '.join(others)} and {last}" in text


def test_an_existing_folder_is_refused_before_the_plan(finished, monkeypatch, capsys):
    monkeypatch.setattr("gallop.runs.extend.prepare_again", lambda *_: pytest.fail("prepared"))
    results, name = finished.path.parents[1], finished.path.name
    with pytest.raises(RunError, match=r"already exists.* --extend .*another --name"):
        extend(finished, {"total_timesteps": 240}, results=results, name=name)
    assert capsys.readouterr().out == ""


def test_a_folder_that_appears_during_the_plan_is_refused(finished, tmp_path):
    class Plan(Display):
        def plan(self, prepared, folder, done=0):
            folder.mkdir(parents=True)

    more = {"total_timesteps": 240}
    with pytest.raises(RunError, match=r"already exists.*; choose another --name"):
        extend(finished, more, results=tmp_path, name="b", display=Plan(quiet=True))


def test_a_schedule_that_reached_its_end_requires_a_new_horizon(tmp_path):
    linear = experiment("ppo", 120, [100], hyperparameters={"learning_rate": "lin_1e-3"})
    short = run(linear, tmp_path, "a")
    more = {"total_timesteps": 240}
    with pytest.raises(ExperimentError, match=r"lin_1e-3 reached its end.*--new-horizon"):
        extend(short, more, results=tmp_path, name="b", display=Display(quiet=True))
    longer = extend(
        short, more, results=tmp_path, name="b", new_horizon=True, display=Display(quiet=True)
    )
    found = rows(longer.path / "progress.csv")
    rates = {int(float(r["time/total_timesteps"])): r["train/learning_rate"] for r in found}
    # A row has the learning rate of the update before it, here at 150 of now 240 timesteps.
    assert float(rates[180]) == pytest.approx(1e-3 * (1 - 150 / 240)), rates


def test_a_running_or_unfinished_run_is_refused(finished, tmp_path):
    more = {"total_timesteps": 240}
    with finished.locked(), pytest.raises(ExperimentError, match="being run by another process"):
        extend(finished, more, results=tmp_path, display=Display(quiet=True))
    finished.final_model.rename(finished.path / "away.zip")
    try:
        with pytest.raises(ExperimentError, match=r"is not finished.*--resume"):
            extend(finished, more, results=tmp_path, display=Display(quiet=True))
    finally:
        (finished.path / "away.zip").rename(finished.final_model)
    with pytest.raises(ExperimentError, match="not a run folder"):
        extend(RunDirectory(tmp_path), more, results=tmp_path, display=Display(quiet=True))
