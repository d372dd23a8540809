"""Several training seeds in parallel: each run equals one trained alone, and finished work is never
repeated, even if the group is stopped or killed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny
from rich.console import Console

from gallop.errors import ExperimentError, RunError
from gallop.execution.processes import OneMachine
from gallop.execution.work import Ended
from gallop.report import group_report
from gallop.report.display import Display
from gallop.report.several_progress import SEEDS, SeveralProgress
from gallop.report.tables import number
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.prepared import prepare
from gallop.run_folder.seed_group import SeedGroup
from gallop.runs import several, workflow
from gallop.runs.seed_group import SeedsFailedError, resume_group, run_seeds, with_seed
from gallop.runs.stopping import Stopped

TESTS = Path(__file__).parent


class InThisProcess(OneMachine):
    """A place for tests that need no processes, and its engine."""

    is_hungry = True

    def __init__(self):
        self.items = []

    def engine(self, n_workers, n_threads, store):
        return self

    def submit(self, item):
        self.items.append(item)

    def poll(self):
        ended = []
        for item in self.items:
            workflow.resume(RunDirectory(item.folder), Display(quiet=True))
            ended.append(Ended(item, 0, ""))
        self.items = []
        return ended

    def close(self):
        pass


@pytest.fixture
def in_this_process(monkeypatch):
    """Keyword arguments for running a group in this process."""
    monkeypatch.setattr(several, "SECONDS_BETWEEN_POLLS", 0.0)
    return {"display": Display(quiet=True), "place": InThisProcess()}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A group of two seeds, trained in processes, and what was printed."""
    results = tmp_path_factory.mktemp("results")
    display = Display()
    display.console = Console(record=True, width=120)
    group = run_seeds(tiny("sac"), [0, 7], results=results, name="g", display=display)
    return group, display.console.export_text()


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].tobytes() for name in file}


def parameters(path):
    """Every tensor of a policy file, by name."""
    with zipfile.ZipFile(path) as archive, archive.open("policy.pth") as file:
        tensors = torch.load(file, weights_only=True)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def final_returns(run):
    """Returns of the final policy, read from episodes.csv by hand."""
    with (run.path / "episodes.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["policy"] == "final"]
    assert len(rows) == 10
    return [float(row["return"]) for row in rows]


def untouched(run):
    """A record that changes if anything is done to a run."""
    files = [path for path in run.path.rglob("*") if path.is_file() and path.name != "lock"]
    return {path: path.stat().st_mtime_ns for path in files}


def test_runs_in_parallel_are_bit_identical_to_runs_alone(done, tmp_path):
    group, _ = done
    policies = []
    for seed in (0, 7):
        experiment = with_seed(tiny("sac"), seed)
        alone = workflow.run(experiment, tmp_path, f"alone-{seed}", Display(quiet=True))
        ours = group.run(seed)
        assert ours.read_experiment() == experiment
        names = ("evaluations.npz", "random_baseline_rewards.npz")
        for name in names:
            assert arrays(ours.path / name) == arrays(alone.path / name)
        assert parameters(ours.final_model) == parameters(alone.final_model)
        assert final_returns(ours) == final_returns(alone)
        policies.append(parameters(ours.final_model))
    assert policies[0] != policies[1]


def test_the_summary_matches_the_episodes_of_the_runs(done):
    group, _ = done
    summary = json.loads(group.summary_file.read_text())
    by_hand = {str(seed): np.mean(final_returns(group.run(seed))) for seed in (0, 7)}
    final = summary["final"]
    assert final["mean_return_of_seed"] == pytest.approx(by_hand)
    assert final["n"] == 2
    # The IQM of two values trims nothing; a resample has one of them, the other, or both.
    assert final["iqm"] == final["mean"] == pytest.approx(np.mean(list(by_hand.values())))
    assert final["iqm_interval"] == pytest.approx(sorted(by_hand.values()))
    assert final["std"] == pytest.approx(np.std(list(by_hand.values())))
    assert set(summary["best"]["mean_return_of_seed"]) == {"0", "7"}
    assert (summary["training_seeds"], summary["unfinished_training_seeds"]) == ([0, 7], [])


def test_the_curve_matches_the_evaluations_of_the_runs(done):
    group, _ = done
    with group.curve_file.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    means = [group.run(seed).numbers.read_evaluations().results.mean(axis=1) for seed in (0, 7)]
    assert [(row["timestep"], row["n"]) for row in rows] == [(120, 2), (240, 2), (360, 2)]
    assert [row["iqm"] for row in rows] == pytest.approx(np.mean(means, axis=0))
    assert [row["low"] for row in rows] == pytest.approx(np.min(means, axis=0))
    assert [row["high"] for row in rows] == pytest.approx(np.max(means, axis=0))
    assert group.learning_curve.read_bytes()[:4] == b"\x89PNG"


def test_output_shows_plan_progress_and_table(done):
    group, shown = done
    for words in (
        *("training seeds 0, 7: 2 runs", "over 2 training seeds", "IQM", str(group.summary_file)),
        *("seed 0:        120 of 360 timesteps", "seed 7: finished"),
        "training seed  final policy  best policy",
    ):
        assert words in shown


def test_figures_prints_the_closing_table_of_the_group(done):
    group, shown = done
    group.learning_curve.unlink()
    again = Display()
    again.console = Console(record=True, width=120)
    group_report.redraw(group, again)
    assert group.learning_curve.exists()
    assert shown.endswith(again.console.export_text())
    assert str(group.summary_file) in shown.splitlines()[-1]


def test_a_second_call_trains_only_new_seeds(done, in_this_process):
    group, _ = done
    results, name = group.path.parents[1], group.path.name
    before = [untouched(group.run(seed)) for seed in (0, 7)]
    # A folder that is not a run, left by a process killed just after the run's start.
    (group.run(3).path / "state").mkdir(parents=True)
    (group.path / ".new-left").mkdir()
    experiment = with_seed(tiny("sac"), 3)
    run_seeds(experiment, [3, 0], results=results, name=name, **in_this_process)
    assert [untouched(group.run(seed)) for seed in (0, 7)] == before
    assert group.run(3).is_finished() and not (group.path / ".new-left").exists()
    assert group.read_seeds() == [0, 7, 3]
    assert group.read_experiment().training_seed == 0
    assert json.loads(group.summary_file.read_text())["training_seeds"] == [0, 7, 3]


def test_another_experiment_under_the_same_name_is_refused(done):
    group, _ = done
    results, before = group.path.parents[1], untouched(group)
    other = tiny("sac", {"batch_size": 8})
    with pytest.raises(ExperimentError) as refused:
        run_seeds(other, [0], results=results, name=group.path.name)
    assert f"{group.path} holds runs with hyperparameters.batch_size 16, not 8" in str(refused)
    assert untouched(group) == before


@pytest.mark.parametrize(
    ("seeds", "workers", "words"),
    [
        ([], None, "at least one training seed is required"),
        ([3, 1, 3], None, "training seed 3 is given twice"),
        ([-1], None, "training_seed: -1: must be at least 0"),
        ([0], 0, "--workers 0: must be at least 1"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(seeds, workers, words, tmp_path):
    with pytest.raises(ExperimentError, match=words):
        run_seeds(tiny("ppo"), seeds, results=tmp_path, name="g", workers=workers)
    assert not list(tmp_path.iterdir())


def test_an_unreadable_policy_is_refused_before_anything_is_written(tmp_path):
    experiment = tiny("ppo", init_from=str(tmp_path / "none.zip"))
    with pytest.raises(RunError, match="no such file"):
        run_seeds(experiment, [0], results=tmp_path, name="g", display=Display(quiet=True))
    assert not list(tmp_path.iterdir())


def test_all_seeds_start_from_the_same_policy(done, in_this_process, tmp_path):
    group, _ = done
    experiment = tiny("sac", init_from=str(group.run(0).final_model))
    ours = run_seeds(experiment, [5], results=tmp_path, name="g", **in_this_process)
    alone = workflow.run(with_seed(experiment, 5), tmp_path, "alone", Display(quiet=True))
    assert parameters(ours.run(5).final_model) == parameters(alone.final_model)


def test_a_folder_that_is_not_a_group_is_refused(tmp_path):
    run = RunDirectory(tmp_path / "PPO_Pendulum-v1" / "g")
    run.create(tiny("ppo"))
    with pytest.raises(RunError, match="is not a group of training seeds"):
        run_seeds(tiny("ppo"), [0], results=tmp_path, name="g")
    with pytest.raises(RunError, match=r"no group\.yaml"):
        resume_group(run.path)
    assert not (run.path / "lock").exists()


def test_only_one_process_can_run_a_group(done):
    group, _ = done
    with group.locked(), pytest.raises(RunError, match="is being run by another process"):
        resume_group(group.path, Display(quiet=True))


def test_the_group_waits_for_a_run_held_by_another_process(tmp_path):
    experiment = tiny("ppo")
    group = SeedGroup(tmp_path / "g")
    group.write(experiment, [0])
    run = workflow.make_folder(group.run(0).path, prepare(experiment))
    held = threading.Event()

    def hold():
        with run.locked():
            held.set()
            time.sleep(3.0)

    threading.Thread(target=hold).start()
    held.wait()
    resume_group(group.path, Display(quiet=True))  # without waiting, it would be refused
    assert run.is_finished()


def test_a_damaged_list_of_seeds_is_reported_on_one_line(tmp_path):
    group = SeedGroup(tmp_path)
    group.write(tiny("ppo"), [0])
    group.seeds_file.write_text('{"training_seeds": [1]}')
    with pytest.raises(RunError, match=r"seeds\.json is damaged"):
        resume_group(tmp_path)
    (tmp_path / "manifest.json").unlink()  # as in a group of an earlier version
    for text in ("", "[]", '{"training_seeds": []}', '{"training_seeds": ["x"]}'):
        group.seeds_file.write_text(text)
        with pytest.raises(RunError, match=r"seeds\.json has no valid training seeds"):
            resume_group(tmp_path)


def test_on_a_terminal_each_run_has_a_row(done):
    group, _ = done
    display = Display()
    display.console = Console(record=True, width=80, force_terminal=True)
    runs = {"0": group.run(0), "9": group.run(9)}
    states = {"0": "finished", "9": "waiting"}
    with SeveralProgress(display, runs, states, dict.fromkeys(runs, 360), SEEDS) as progress:
        progress.show(at_once=True)
    last = [float(group.run(0).numbers.read_evaluations().results[-1].mean())]
    shown = display.console.export_text()
    for words in ("all runs", "360/720", "finished", "waiting", number(last[0])):
        assert words in shown


def test_a_long_table_begins_with_the_runs_that_train(done):
    group, _ = done
    display = Display()
    display.console = Console(record=True, width=80, force_terminal=True)
    names = [str(number) for number in range(40)]
    runs = dict.fromkeys(names, group.run(0))
    states = {name: "finished" if int(name) < 30 else "waiting" for name in names}
    states["35"] = "running"
    with SeveralProgress(display, runs, states, dict.fromkeys(names, 360), SEEDS) as progress:
        progress.show(at_once=True)
    shown = display.console.export_text()
    assert "1 running, 9 waiting, 30 finished" in shown
    first = next(line for line in shown.splitlines() if line.rstrip().endswith("running"))
    assert first.split()[0] == "35"


def test_a_failing_run_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(TESTS), *OUTER_PATH))))
    experiment = tiny("sac", env="gallop_breaking_task:Breaking-v0", env_kwargs={})
    display = Display()
    display.console = Console(record=True, width=120)
    with pytest.raises(SeedsFailedError) as failed:
        run_seeds(experiment, [0, 1], results=tmp_path, name="g", display=display)
    assert "1 of 2 runs" in str(failed.value) and "a leg broke" in str(failed.value)
    (path,) = tmp_path.glob("*/g")
    group = SeedGroup(path)
    assert group.run(0).is_finished() and not group.run(1).is_finished()
    shown = " ".join(display.console.export_text().split())
    where = "gallop_breaking_task:Breaking-v0, training, segment 0, after timestep 0"
    assert f"seed 1 failed: {where}: RuntimeError: a leg broke (" in shown
    summary = json.loads(group.summary_file.read_text())
    assert (summary["training_seeds"], summary["unfinished_training_seeds"]) == ([0], [1])


def test_a_seed_whose_folder_cannot_be_used_does_not_stop_the_others(tmp_path, in_this_process):
    group = SeedGroup(tmp_path / "PPO_Pendulum-v1" / "g")
    group.run(0).path.mkdir(parents=True)
    (group.run(0).path / "notes.txt").write_text("mine")
    group.write(tiny("ppo"), [0, 1])
    with pytest.raises(SeedsFailedError, match=r"1 of 2 runs.*seed 0: .*seed-0 already exists"):
        resume_group(group.path, **in_this_process)
    assert group.run(1).is_finished()
    assert [path.name for path in group.run(0).path.iterdir()] == ["notes.txt"]


def test_a_seed_with_damaged_numbers_does_not_stop_the_others(done, tmp_path, in_this_process):
    group = SeedGroup(tmp_path / "g")
    shutil.copytree(done[0].path, group.path)
    file = group.run(0).path / "evaluations.npz"
    file.write_bytes(b"")
    with pytest.raises(SeedsFailedError, match=rf"1 of . runs.*seed 0: {file} is empty"):
        resume_group(group.path, **in_this_process)
    summary = json.loads(group.summary_file.read_text())
    # Other tests may have added seeds to the copied group.
    assert summary["unfinished_training_seeds"] == [0] and 7 in summary["training_seeds"]


OUTER_PATH = [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes")
# Figures are drawn at each evaluation and take longer than training.
EVALUATION = {"interval": 6_000, "n_episodes": 2}
LONG = {"total_timesteps": 6_000, "segment": 600, "evaluation": EVALUATION}


def long_experiment():
    return tiny("sac", **LONG)


def wait_for(what, seconds=60):
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def children(pid):
    """Child processes."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


@needs_proc
def test_a_stopped_group_says_what_is_saved(tmp_path):
    group = SeedGroup(tmp_path / "SAC_Pendulum-v1" / "g")
    display = Display()
    display.console = Console(record=True, width=120)

    def stop():
        wait_for(lambda: resume_state.last_timestep(group.run(1).state))
        os.kill(os.getpid(), signal.SIGTERM)

    before = children(os.getpid())  # for example the fork server of other tests
    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(Stopped):
        run_seeds(long_experiment(), [1, 2], results=tmp_path, name="g", display=display)
    assert set(children(os.getpid())) <= set(before)
    shown = display.console.export_text()
    timestep = resume_state.last_timestep(group.run(1).state)
    assert f"seed 1: up to timestep {timestep:,} of 6,000" in shown
    assert f"gallop run --resume {group.path}" in shown.replace("\n", "")
    assert not group.run(1).is_finished()
    runs = {str(seed): run for seed, run in group.runs().items()}
    left = several.SeveralRuns(runs, dict.fromkeys(runs, 6_000), SEEDS, display).left()
    reached = [resume_state.last_timestep(run.state) for run in runs.values()]
    assert left == pytest.approx([1 - each / 6_000 for each in reached])
    with group.locked():
        assert not group.run(1).is_locked()


@needs_proc
def test_a_killed_group_leaves_no_process_and_can_be_finished(tmp_path):
    """The coordinator is killed when the first run has ended and others are training."""
    group = SeedGroup(tmp_path / "SAC_Pendulum-v1" / "g")
    program = (
        "from pathlib import Path\n"
        "from gallop.runs.seed_group import run_seeds\n"
        "from test_seed_group import long_experiment\n"
        f"run_seeds(long_experiment(), [0, 1, 2], results=Path({str(tmp_path)!r}), name='g')\n"
    )
    path = os.pathsep.join((str(TESTS), *OUTER_PATH))
    coordinator = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
    )
    runs = [group.run(seed) for seed in (0, 1, 2)]

    def mid_way():
        return any(run.is_finished() for run in runs) and resume_state.last_timestep(runs[2].state)

    try:
        wait_for(mid_way, 100)
        workers = children(coordinator.pid)
    finally:
        coordinator.kill()
        coordinator.wait()
    assert workers
    finished = {run: untouched(run) for run in runs if run.is_finished()}
    assert finished and not runs[2].is_finished()
    # Immediately, while the workers may still be stopping.
    resume_group(group.path, Display(quiet=True))
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert all(run.is_finished() for run in runs)
    assert {run: untouched(run) for run in finished} == finished
    for run in runs:
        resumes = json.loads((run.path / "provenance.json").read_text())["resumes"]
        assert len(resumes) == (1 if run in finished else 2)
