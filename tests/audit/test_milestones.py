"""The audits of a run's milestones: files, what they hold, failures and resumes."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny

from gallop.commands.cli import main
from gallop.evaluation.audit.trajectory import from_arrays
from gallop.evaluation.episodes import evaluate
from gallop.execution.work import HELD
from gallop.experiments.seeding import EVALUATION_SEEDS
from gallop.reading import read_json, read_npz
from gallop.report import audit_files
from gallop.report.display import Display
from gallop.report.pages.audit_record import read_audit
from gallop.run_folder import manifest
from gallop.run_folder.find_policy import find_policy
from gallop.runs.audit_queue import AuditQueue
from gallop.runs.workflow import run


def trained(results, **settings):
    """A finished tiny run, and what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        folder = run(tiny("sac", audit=True, **settings), results=results, display=Display())
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def hopper(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("results"), env="Hopper-v5", milestones=[100])


def test_every_evaluation_episode_is_audited(hopper):
    folder, printed = hopper
    milestone = folder.milestone(100)
    found = read_json(milestone.audit)
    assert [each["seed"] for each in found["episodes"]] == list(EVALUATION_SEEDS)
    returns = [each["return"] for each in found["episodes"]]
    np.testing.assert_array_equal(returns, milestone.read_rewards())
    assert found["robot"]["feet"] == ["foot"]
    names = {each["change"] for each in found["sensitivity"]}
    assert {"half the physics step", "integrator euler", "mass +20 %"} < names
    assert all(len(each["returns"]) == 10 for each in found["sensitivity"])
    for name in ("gait.png", "pitch.png", "sensitivity.png"):
        assert (milestone.path / name).read_bytes().startswith(b"\x89PNG")
    assert f"audit   {milestone.audit}: " in printed.replace("\n", "")
    assert not folder.audit_jobs()
    assert not manifest.damages(folder.path)


def test_the_trajectory_of_the_filmed_episode_reads_back(hopper):
    folder, _ = hopper
    path = folder.milestone(100).trajectory
    with np.load(path, allow_pickle=False) as arrays:
        trajectory = from_arrays(dict(arrays))
    found = read_json(folder.milestone(100).audit)
    filmed, first = found["filmed"], found["episodes"][0]
    assert trajectory.n == first["length"] * trajectory.n_per_timestep
    assert len(filmed["pitch"]) == first["length"] + 1
    assert filmed["dt"] == pytest.approx(trajectory.dt * trajectory.n_per_timestep)
    env = folder.read_experiment() and find_policy(folder.milestone(100).path).task.make()
    env.reset(seed=filmed["seed"])
    np.testing.assert_array_equal(trajectory.qpos[0], env.unwrapped.data.qpos)
    np.testing.assert_array_equal(trajectory.qvel[0], env.unwrapped.data.qvel)
    env.close()
    assert path.stat().st_size < 2_000_000


def test_an_audit_that_fails_is_said_and_made_when_the_run_is_resumed(hopper):
    folder, _ = hopper
    milestone, job = folder.milestone(100), folder.audit_job(100)
    named = find_policy(milestone.path)
    episodes = evaluate(named.read(), named.task.make, EVALUATION_SEEDS[:2])
    audit_files.write_job(job, replace(episodes, returns=episodes.returns + 1), False)
    finish(AuditQueue(folder))
    missing = milestone.read_meta()["missing"]["audit.json"]
    assert f"the episode of seed 10000 returns {float(episodes.returns[0])!r} when it" in missing
    assert job.exists(), "the next resume tries again"
    audit_files.write_job(job, episodes, False)
    finish(AuditQueue(folder))
    assert "audit.json" not in milestone.read_meta()["missing"]
    assert len(read_json(milestone.audit)["episodes"]) == 2
    assert not job.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": np.array([1, 1])},
        {"lengths": np.array([0, 0])},
        {"lengths": np.array([-1, -2])},
        {"returns": np.zeros(3)},
        {"seeds": np.zeros(0, int)},
        {"seeds": np.array("seed")},
        {"terms": np.zeros((1, 2))},
        {"terms": np.array([["a", "b"]])},
        {"term_names": np.array("speed")},
        {"actions": np.array(0.5)},
        {"sensitive": np.array([True, False])},
    ],
)
def test_a_job_that_was_tampered_with_is_told_in_a_line(hopper, tmp_path, change):
    folder, _ = hopper
    named = find_policy(folder.milestone(100).path)
    episodes = evaluate(named.read(), named.task.make, EVALUATION_SEEDS[:2])
    audit_files.write_job(tmp_path / "job.npz", episodes, False)
    with np.load(tmp_path / "job.npz") as arrays:
        job = {**arrays, **change}
    np.savez(tmp_path / "job.npz", **job)
    with pytest.raises(ValueError, match="the arrays of the audit's job do not fit each other"):
        audit_files.make(tmp_path / "job.npz", folder.milestone(100).path)


def test_a_job_that_fails_is_told_once_and_not_tried_again(hopper, caplog):
    folder, _ = hopper
    job = folder.audit_job(100)
    job.write_bytes(b"no archive")
    before, queue = folder.milestone(100).read_meta(), AuditQueue(folder)
    finish(queue)
    assert queue.n_ended == 1 and not queue.poll() and queue.n_ended == 1
    (told,) = [each.getMessage() for each in caplog.records if "100 %" in each.getMessage()]
    assert told.startswith("no audit of 100 %: ") and "\n" not in told
    job.unlink()
    folder.milestone(100).write_meta(before)


def test_jobs_of_no_milestone_of_the_run_are_passed_over(hopper, caplog):
    folder, _ = hopper
    names = ("033.npz", "1e0.npz", "٠٥٠.npz", "50.npz", "²00.npz", "0100.npz", "100 .npz")
    jobs = [folder.audit_job(0).parent / name for name in names]
    for job in jobs:
        job.write_bytes(b"")
    try:
        assert [job.name for job in folder.audit_jobs()] == ["033.npz"]
        queue = AuditQueue(folder)
        assert not queue.poll() and not queue.poll()
        (told,) = caplog.records
        assert told.getMessage() == f"{jobs[0]} is not audited: the run has no such milestone"
        assert not folder.milestone(33).path.exists()
    finally:
        for job in jobs:
            job.unlink()


def test_a_child_that_cannot_be_started_is_a_failed_audit(hopper, caplog):
    folder, _ = hopper
    job, log = folder.audit_job(100), folder.audit_job(100).with_suffix(".log")
    job.write_bytes(b"")
    before = folder.milestone(100).read_meta()
    log.unlink(missing_ok=True)
    log.mkdir()  # where the child's output should go
    queue = AuditQueue(folder)
    assert not queue.poll() and not queue.poll()
    (told,) = caplog.records
    assert told.getMessage().startswith("no audit of 100 %: its process cannot be started: ")
    log.rmdir()
    job.unlink()
    folder.milestone(100).write_meta(before)


def finish(queue):
    while queue.poll():
        time.sleep(0.05)


def test_a_queue_that_is_closed_leaves_its_job_to_the_next_one(hopper):
    folder, _ = hopper
    milestone, job = folder.milestone(100), folder.audit_job(100)
    named = find_policy(milestone.path)
    episodes = evaluate(named.read(), named.task.make, EVALUATION_SEEDS[:3])
    audit_files.write_job(job, episodes, False)
    before, queue = milestone.audit.read_bytes(), AuditQueue(folder)
    assert queue.poll()
    queue.close()
    assert job.exists()
    assert milestone.audit.read_bytes() == before
    finish(AuditQueue(folder))
    assert len(read_json(milestone.audit)["episodes"]) == 3


def test_the_command_writes_into_a_run_and_its_manifest(hopper, capsys):
    folder, _ = hopper
    milestone = folder.milestone(100)
    assert main(["audit", str(milestone.path), "--episodes", "2", "-o", str(milestone.path)]) == 0
    assert len(read_json(milestone.audit)["episodes"]) == 2
    assert not milestone.sensitivity.exists(), "it belonged to an earlier audit"
    assert not manifest.damages(folder.path)
    with folder.locked():
        code = main(["audit", str(milestone.path), "--episodes", "1", "-o", str(milestone.path)])
    assert code == HELD
    assert "is being run by another process" in capsys.readouterr().err
    assert len(read_json(milestone.audit)["episodes"]) == 2


def test_nothing_is_written_over_what_a_run_says_of_another_policy(hopper, tmp_path, capsys):
    folder, _ = hopper
    before = folder.milestone(100).audit.read_bytes()
    for what, output in ((folder, folder.milestone(100)), (folder, folder)):
        assert main(["audit", str(what.path), "--episodes", "1", "-o", str(output.path)]) == 2
        assert "belongs to a run" in capsys.readouterr().err
    assert main(["report", str(folder.path), "-o", str(folder.path / "report.html")]) == 2
    assert "without -o" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["audit", str(folder.path), "-o", str(tmp_path / "file")]) == 2
    assert "-o takes a folder" in capsys.readouterr().err
    assert main(["audit", str(folder.path), "-o", str(tmp_path / "file" / "audit")]) == 2
    said = capsys.readouterr()
    assert "is a file" in said.err and said.out == "", "it is said before anything is played"
    assert folder.milestone(100).audit.read_bytes() == before
    assert not manifest.damages(folder.path)


def test_a_page_reads_what_an_audit_writes(hopper):
    found = read_audit(hopper[0].milestone(100).audit)
    assert {"speed", "in the air", "largest force", "energy from no force"} < found.measures.keys()
    assert "floor's push on foot" in found.measures
    assert found.filmed.seed == EVALUATION_SEEDS[0] and found.filmed.contacts.keys() == {"foot"}


def test_the_job_keeps_the_episodes_with_a_finite_return(hopper, tmp_path):
    named = find_policy(hopper[0].milestone(100).path)
    episodes = evaluate(named.read(), named.task.make, EVALUATION_SEEDS[:3])
    episodes.returns[1] = np.nan
    audit_files.write_job(tmp_path / "job.npz", episodes, False)
    job = read_npz(tmp_path / "job.npz", ("seeds", "actions", "lengths", "returns"))
    assert job["seeds"].tolist() == [EVALUATION_SEEDS[0], EVALUATION_SEEDS[2]]
    assert len(job["actions"]) == job["lengths"].sum() == sum(episodes.lengths[[0, 2]])


def test_a_task_without_mujoco_says_so(tmp_path):
    folder, printed = trained(tmp_path)
    found = read_json(folder.milestone(100).audit)
    assert found["why_not"] == "Pendulum-v1 is not a MuJoCo task, so there is nothing to audit"
    assert f"audit   {found['why_not']}" in printed
    assert folder.milestone(100).read_meta()["missing"].keys() == {"rollout.mp4"}
