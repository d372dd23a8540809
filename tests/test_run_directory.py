"""The run folder: names, formats, atomic writes."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import time

import numpy as np
import pytest
from conftest import tiny

from gallop.errors import RunError
from gallop.evaluation.episodes import Episodes
from gallop.learners.learner import LogRow
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.files import new_folder, remove_leftovers, replacing, sync, write_bytes
from gallop.run_folder.listing import list_runs
from gallop.run_folder.lookup import all_runs, containing_run, run_path


def episodes(*returns, **terms):
    n = len(returns)
    return Episodes(
        seeds=np.arange(n),
        returns=np.array(returns, dtype=float),
        lengths=np.full(n, 50),
        reward_terms={name: np.array(values) for name, values in terms.items()},
    )


@pytest.fixture
def folder(tmp_path):
    folder = RunDirectory(tmp_path / "SAC_Pendulum-v1" / "first")
    folder.create(tiny("sac"))
    return folder


def test_paths_are_as_specified(tmp_path):
    assert run_path(tmp_path, "sac", "ns/my:Env-v0", "a") == tmp_path / "SAC_ns-my-Env-v0" / "a"
    milestone = RunDirectory(tmp_path).milestone(25)
    assert milestone.path == tmp_path / "checkpoints" / "025"
    for name in ("../up", "a/b", "a\\b", "..", "", "c:d", "nul\0"):
        with pytest.raises(RunError, match="single folder name"):
            run_path(tmp_path, "sac", "Pendulum-v1", name)


def test_a_run_is_never_overwritten(folder):
    with pytest.raises(RunError, match="already exists"):
        RunDirectory(folder.path).create(tiny("sac"))
    assert folder.read_experiment() == tiny("sac")


def test_a_taken_name_says_what_can_be_done_with_the_folder(folder):
    with pytest.raises(RunError, match=r"resume it with gallop run --resume .*or choose another"):
        folder.check_is_new()
    folder.write_json("provenance.json", {"end": "2026-01-01"})
    with pytest.raises(RunError, match=r"extend it with gallop run --extend .*or choose another"):
        folder.check_is_new()
    with pytest.raises(RunError, match=r"overwritten; choose another --name$"):
        RunDirectory(folder.path.parent).check_is_new()  # not a run
    RunDirectory(folder.path.with_name("new")).check_is_new()


def test_a_folder_that_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run folder"):
        RunDirectory(tmp_path).read_experiment()


def test_only_one_process_can_hold_a_run(folder):
    second = RunDirectory(folder.path).locked()
    with folder.locked(), pytest.raises(RunError, match="by another process"):
        second.__enter__()
    with folder.locked():
        pass


def test_evaluations_are_appended_under_sb3s_keys(folder):
    assert folder.numbers.read_evaluations() is None
    folder.numbers.append_evaluation(100, episodes(1, 2))
    folder.numbers.append_evaluation(200, episodes(3, 5))
    with np.load(folder.path / "evaluations.npz", allow_pickle=False) as file:
        assert sorted(file) == ["ep_lengths", "results", "seeds", "timesteps"]
        np.testing.assert_array_equal(file["timesteps"], [100, 200])
        np.testing.assert_array_equal(file["results"], [[1, 2], [3, 5]])
        np.testing.assert_array_equal(file["ep_lengths"], [[50, 50], [50, 50]])


def read_csv(folder, name):
    with (folder.path / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_episode_has_a_row_and_a_column_for_each_reward_term(folder):
    folder.numbers.append_episodes("random", 0, "evaluation", episodes(1 / 3, reward_run=[2.0]))
    folder.numbers.append_episodes("current", 100, "validation", episodes(7, 8, reward_run=[1, 2]))
    rows = read_csv(folder, "episodes.csv")
    assert list(rows[0]) == [
        "policy", "timestep", "seed_family", "seed", "return", "length", "reward_run",
    ]  # fmt: skip
    assert [row["policy"] for row in rows] == ["random", "current", "current"]
    assert float(rows[0]["return"]) == 1 / 3, "no digit is lost"


def test_repeated_evaluation_replaces_rows(folder):
    folder.numbers.append_episodes("best", 100, "evaluation", episodes(1, 2))
    folder.numbers.append_episodes("final", 100, "evaluation", episodes(5))
    folder.numbers.append_episodes("best", 100, "evaluation", episodes(1, 2))
    assert [row["policy"] for row in read_csv(folder, "episodes.csv")] == ["final", "best", "best"]


def test_numbers_after_the_boundary_are_dropped(folder):
    for timestep in (100, 200, 300):
        folder.numbers.append_evaluation(timestep, episodes(timestep))
        folder.numbers.append_episodes("current", timestep, "validation", episodes(timestep))
        folder.numbers.append_log(
            [LogRow(timestep, {"time/total_timesteps": timestep, "train/x": 0.5})]
        )
    folder.numbers.forget_after(200)
    assert folder.numbers.read_evaluations().timesteps.tolist() == [100, 200]
    assert [row["timestep"] for row in read_csv(folder, "episodes.csv")] == ["100", "200"]
    assert len(read_csv(folder, "progress.csv")) == 2


def test_the_log_is_read_in_order_together_with_evaluations(folder):
    assert folder.numbers.read_log() == []
    train = LogRow(100, {"time/total_timesteps": 100, "train/x": 0.1})
    only_now = LogRow(200, {"time/total_timesteps": 200, "train/y": 1 / 3})
    folder.numbers.append_log([train])
    folder.numbers.append_evaluation(100, episodes(1.0, 2.0))
    folder.numbers.append_log([only_now])
    evaluation = LogRow(100, {"eval/mean_reward": 1.5, "eval/mean_ep_length": 50.0})
    assert folder.numbers.read_log() == [train, evaluation, only_now]


def test_ids_of_the_run_at_trackers_are_stored(folder):
    assert folder.read_tracker_runs() == {}
    folder.write_tracker_run("mlflow", "a1")
    folder.write_tracker_run("wandb", "b2")
    assert RunDirectory(folder.path).read_tracker_runs() == {"mlflow": "a1", "wandb": "b2"}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError), replacing(tmp_path) as temporary:
        (temporary / "a").write_bytes(b"ne")
        raise RuntimeError
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"], "nothing is left behind"


def test_a_new_folder_appears_complete_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a", replace=True) as temporary:
        (temporary / "x").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    for content in (b"1", b"2"):
        with new_folder(tmp_path / "a", replace=True) as temporary:
            (temporary / "x").write_bytes(content)
            assert content == b"2" or not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "x").read_bytes() == b"2"


def test_old_temporary_folders_are_removed(tmp_path, monkeypatch):
    """Age is measured by the file system's clock, because clocks of machines may differ."""
    old, others = tmp_path / ".new-old", tmp_path / ".new-others"
    old.mkdir()
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    others.mkdir()
    wrong = time.time() + 100 * 3600
    monkeypatch.setattr(time, "time", lambda: wrong)
    with new_folder(tmp_path / "run"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-others", "run"]


def test_leftovers_of_killed_writers_are_removed(folder):
    leftover = folder.path / "checkpoints" / ".new-abc"
    leftover.mkdir(parents=True)
    remove_leftovers(folder.path)
    assert not leftover.exists()
    assert folder.experiment_file.exists()


def test_runs_are_found_oldest_first(tmp_path, folder):
    second = RunDirectory(tmp_path / "PPO_Pendulum-v1" / "a")
    second.create(tiny("ppo"))
    assert [run.path.name for run in all_runs(tmp_path)] == ["first", "a"]
    assert containing_run(folder.path / "checkpoints" / "025").path == folder.path
    assert containing_run(tmp_path) is None


def test_runs_in_groups_are_found_and_named_by_their_group(tmp_path, folder):
    group = tmp_path / "PPO_Pendulum-v1" / "g"
    third = RunDirectory(group / "seed-3")
    third.create(tiny("ppo"))
    for place in (folder.path / "checkpoints", group / ".new-x", third.path / "checkpoints"):
        place.mkdir()
        shutil.copy(third.experiment_file, place)
    assert [run.name for run in all_runs(tmp_path)] == ["first"]  # not a group yet
    shutil.copy(third.experiment_file, group / "group.yaml")
    assert [run.name for run in all_runs(tmp_path)] == ["first", "g/seed-3"]
    third.experiment_file.write_text("algo: [")
    first, damaged = list_runs(tmp_path)
    assert (first.name, damaged.name) == ("first", "g/seed-3")
    assert (damaged.status, damaged.algo, damaged.env) == ("damaged", "ppo", "Pendulum-v1")
    assert containing_run(group) is None


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_cannot_sync_folders_is_accepted(number, tmp_path, monkeypatch):
    """Some network file systems cannot; errors for files still count."""
    (tmp_path / "a").touch()

    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    if number != errno.EIO:
        sync(tmp_path)
    for path in (tmp_path / "a", *([tmp_path] if number == errno.EIO else [])):
        with pytest.raises(OSError, match=os.strerror(number)):
            sync(path)
