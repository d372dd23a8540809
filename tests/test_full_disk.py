"""A full disk is reported on one line and costs nothing: tested on a small file system."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import runs
import small_search
from conftest import tiny
from test_damage import gallop

from gallop.errors import RunError, TaskError
from gallop.experiments.plan import make_plan
from gallop.report.display import Display
from gallop.run_folder import resume_state
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.full_disk import DiskFullError, is_full
from gallop.run_folder.verification import verify
from gallop.runs import space, workflow


def fill(disk: Path, left: int) -> None:
    """Fill the disk, leaving `left` bytes free."""
    with (disk / "ballast").open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(disk).free - left)))


class FillAt:
    """A tracker that fills the disk at a timestep."""

    def __init__(self, disk: Path, timestep: int, left: int) -> None:
        self.disk, self.timestep, self.left = disk, timestep, left

    def log(self, row) -> None:
        if row.timestep >= self.timestep:
            fill(self.disk, self.left)
            self.timestep = 1 << 40

    def close(self) -> None:
        pass


def experiment(algo: str, **settings):
    return tiny(algo, milestones=[50, 100], total_timesteps=480, **settings)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Evaluations of an undisturbed run, by algorithm."""
    made = {}

    def returns(algo):
        if algo not in made:
            home = tmp_path_factory.mktemp(algo)
            made[algo] = evaluations(workflow.run(experiment(algo), home, "a", Display(quiet=True)))
        return made[algo]

    return returns


def evaluations(run: RunDirectory) -> list[list[float]]:
    with np.load(run.path / "evaluations.npz") as file:
        return file["results"].tolist()


@pytest.mark.parametrize(
    ("algo", "left"),
    [
        *(("sac", 0), ("ppo", 60_000), ("sac", 120_000), ("sac", 400_000)),
        *(pytest.param("sac", 9_000 * i, marks=pytest.mark.faults) for i in range(1, 33)),
    ],
)  # fmt: skip
def test_a_run_whose_disk_fills_up_resumes_to_the_same_bits(algo, left, disk, reference, capsys):
    filling = FillAt(disk, 240, left)
    with pytest.raises(DiskFullError) as raised:
        workflow.run(experiment(algo), disk, "a", Display(quiet=True), [filling])
    run = RunDirectory(next(disk.glob("*/a")))
    said = str(raised.value)
    assert "\n" not in said and str(run.path) in said
    assert " free, " in said and " needed" in said
    timestep = resume_state.last_timestep(
        run.state
    )  # 240 if there was still room for that boundary
    assert timestep == {400_000: 240, 0: 120, 60_000: 120, 120_000: 120}.get(left, timestep) > 0
    assert f"saved up to timestep {timestep} of 480" in said
    assert said.endswith(f"gallop run --resume {run.path}")
    code, lines = gallop(capsys, "run", "--resume", run.path)
    assert code == 1 and lines[-1].startswith("gallop: ") and "the run is saved up to" in lines[-1]
    assert "Traceback" not in " ".join(lines)
    (disk / "ballast").unlink()
    code, lines = gallop(capsys, "run", "--resume", run.path)
    assert code == 0, lines
    assert evaluations(run) == reference(algo)
    assert verify(run.path).problems == []
    assert not list(run.path.rglob(".new-*"))
    runs.record("full_disk", algo=algo, bytes_left=left, kept_up_to=timestep, same_returns=True)


@pytest.mark.slow
def test_a_full_disk_during_filming_costs_no_film(disk, capsys):
    filmed = experiment("ppo", films=True)
    with pytest.raises(DiskFullError, match="the run is saved up to"):
        workflow.run(filmed, disk, "a", Display(quiet=True), [FillAt(disk, 240, 30_000)])
    run = RunDirectory(next(disk.glob("*/a")))
    (disk / "ballast").unlink()
    code, lines = gallop(capsys, "run", "--resume", run.path, "--quiet")
    assert code == 0, lines
    films = [run.path / f"checkpoints/{percent}/rollout.mp4" for percent in ("050", "100")]
    assert all(film.stat().st_size > 5_000 for film in films)
    assert verify(run.path).problems == []


@pytest.mark.slow
def test_every_command_reports_the_full_disk_and_leaves_no_partial_output(disk, capfd):
    run = workflow.run(tiny("ppo"), disk, "a", Display(quiet=True))
    # capfd, because filming may be in another process.
    new, film = disk / "new", disk / "new.mp4"
    for left, made, arguments in (
        (0, run.learning_curve, ["figures", run.path]),
        (10_000, film, ["watch", run.path, "-o", film, "--episodes", "1"]),
        (0, new, ["export", run.path, "--hub", new]),
        (20_000, new, ["run", "--extend", run.path, "-n", "720", "--new-horizon", "-f", new]),
    ):
        before = made.read_bytes() if made.exists() else None
        fill(disk, left)
        code, lines = gallop(capfd, *arguments)
        (disk / "ballast").unlink()
        assert code != 0
        said = [line for line in lines if line.startswith("gallop: ")]
        assert len(said) == 1 and str(made.parent) in said[0], lines
        assert re.search("no space left|not enough disk space", said[0], re.IGNORECASE), lines
        assert (made.read_bytes() if made.is_file() else None) == before
        assert not list(new.rglob("*.yaml"))
        assert verify(run.path).problems == []


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 40_000, 400_000])
def test_a_search_whose_disk_filled_up_resumes(left, disk, tmp_path, capsys):
    file = small_search.write(tmp_path, small_search.one_round(2))
    code, lines = gallop(capsys, "tune", file, "-f", disk / "o", "--name", "x", "--quiet")
    assert code == 0, lines
    (search,) = disk.glob("o/plots/*/x")
    fill(disk, left)
    more = ["tune", "--resume", search, "--n-trials", "4", "--quiet"]
    code, lines = gallop(capsys, *more)
    assert code == 1 and lines[-1].startswith("gallop: "), lines
    assert " free" in lines[-1] and "nothing is lost: every trial is kept" in lines[-1]
    assert lines[-1].endswith(f"gallop tune --resume {search}")
    (disk / "ballast").unlink()
    code, lines = gallop(capsys, *more)
    assert code == 0, lines
    (page,) = disk.glob("o/**/*.html")
    assert page.stat().st_size > 10_000
    trials = json.loads((search / "results.json").read_text())["trials"]
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * 4


def test_a_run_without_room_for_two_boundaries_is_refused_before_it_starts(disk, tmp_path, capsys):
    fill(disk, 5_000_000)
    (tmp_path / "a.yaml").write_text(
        "algo: ppo\nenv: Pendulum-v1\ntotal_timesteps: 8192\nlearner: sb3\n"
    )
    for dry in ([], ["--dry-run"]):
        code, lines = gallop(capsys, "run", tmp_path / "a.yaml", "-f", disk / "results", *dry)
        assert code == 2
        assert "not enough disk space: 5.0 MB free, at least 20.0 MB needed" in lines[-1]
    assert not (disk / "results").exists()


def test_low_disk_space_is_reported_before_the_run(disk, capsys):
    plan = make_plan(tiny("ppo"))
    space.check_before(disk, plan, Display())
    assert "disk space is low: 32.0 MB free" in capsys.readouterr().out
    with pytest.raises(RunError, match="not enough disk space"):
        space.check_before(disk, plan, Display(), n_runs=3)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError('Error while serializing: I/O error: No space left on device (os error 28)'),
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 64 vs 0"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
    ],
)  # fmt: skip
def test_a_full_disk_is_recognised_in_the_errors_of_every_library(error):
    assert is_full(error)
    wrapped = ValueError("something else")
    wrapped.__cause__ = error
    assert is_full(wrapped)


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "x"), ValueError("x"), RunError("disk is full.zip: no zip")]
)
def test_other_errors_are_not_taken_for_a_full_disk(error):
    assert not is_full(error)


def test_a_task_error_that_mentions_a_full_disk_is_not_taken_for_one():
    error = TaskError("Arm-v0", "RuntimeError: no space left on device")
    error.__cause__ = RuntimeError("no space left on device")
    assert not is_full(error)
    error.__cause__.__cause__ = OSError(errno.ENOSPC, "x")  # for example of its log file
    assert is_full(error)


def test_the_message_says_how_to_resume_whatever_the_path_contains(tmp_path):
    run = RunDirectory(tmp_path / "nothing is lost")
    run.create(tiny("ppo"))
    with pytest.raises(DiskFullError) as raised, space.explaining(run, make_plan(tiny("ppo"))):
        raise DiskFullError(run.path)
    assert str(raised.value).endswith(f"gallop run --resume {run.path}")
    with pytest.raises(DiskFullError) as again, space.explaining(run, make_plan(tiny("ppo"))):
        raise raised.value
    assert again.value is raised.value
