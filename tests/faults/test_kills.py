"""A run killed at any time and resumed is bit-identical to one that was never stopped."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from algorithm_rows import ROWS
from runs import children_of, content

from gallop.run_folder.directory import RunDirectory

CONFIG = """
algo: {algo}
env: Pendulum-v1
env_kwargs: {{max_episode_steps: 50}}
total_timesteps: 600
segment: 100
milestones: [50, 100]
evaluation: {{interval: 100, n_episodes: 2}}
normalize: {normalize}
n_envs: {n_envs}
films: false
audit: false
log_interval: 1
hyperparameters: {{{hyperparameters}, learning_rate: lin_1e-3, policy_kwargs: {{net_arch: [16]}}}}
"""
CASES = {algo: {"algo": algo, **row.killed} for algo, row in ROWS.items()}


def start(home, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "gallop", "run", *map(str, arguments)],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Case -> content of a run that was never stopped."""
    made = {}

    def reference(case):
        if case not in made:
            home = tmp_path_factory.mktemp(case)
            (home / "config.yaml").write_text(CONFIG.format(**CASES[case]))
            code, output = finish(start(home, "config.yaml", "--name", "a"))
            assert code == 0, output
            made[case] = content(run_folder(home))
        return made[case]

    return reference


def run_folder(home):
    return next((home / "results").glob("*/a"))


def wait_for_timestep(home, process, timestep, delay):
    """Wait until a boundary is on disk, and a moment longer."""
    deadline = time.monotonic() + 200
    boundary = f"*/a/state/{timestep:012d}/boundary.json"
    while not list((home / "results").glob(boundary)):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(delay)


# test_random_kills.py has a sample for every algorithm, in the slow tests.
IN_EVERY_CHECK = ("ppo", "sac")


@pytest.mark.parametrize(
    ("case", "kills"),
    [
        pytest.param(
            algo, row.kills, id=algo, marks=() if algo in IN_EVERY_CHECK else pytest.mark.faults
        )
        for algo, row in ROWS.items()
    ],
)
def test_a_killed_and_resumed_run_equals_one_never_stopped(case, kills, references, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(**CASES[case]))
    process = start(tmp_path, "config.yaml", "--name", "a")
    n_killed = 0
    for timestep, delay in kills:
        wait_for_timestep(tmp_path, process, timestep, delay)
        process.send_signal(signal.SIGKILL)
        n_killed += finish(process)[0] == -signal.SIGKILL
        process = start(tmp_path, "--resume", run_folder(tmp_path))
    code, output = finish(process)
    assert code == 0, output
    assert n_killed == len(kills)
    expected, found = references(case), content(run_folder(tmp_path))
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert len(expected) > 100


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_signal_stops_and_prints_what_is_saved_and_how_to_resume(
    number, code, references, tmp_path
):
    (tmp_path / "config.yaml").write_text(CONFIG.format(**CASES["sac"]))
    process = start(tmp_path, "config.yaml", "--name", "a")
    wait_for_timestep(tmp_path, process, 200, 0.1)
    process.send_signal(number)
    returned, output = finish(process)
    assert returned == code, output
    last = " ".join(output.splitlines()[-2:])
    assert f"stopped by {number.name}" in last
    assert "saved up to timestep" in last and "lost" in last
    assert f"gallop run --resume {Path('results') / 'SAC_Pendulum-v1' / 'a'}" in last
    assert "Traceback" not in output
    code, output = finish(start(tmp_path, "--resume"))  # the newest unfinished run
    assert code == 0, output
    assert "resuming from timestep" in output
    assert content(run_folder(tmp_path)) == references("sac")


def test_a_run_stopped_before_its_first_boundary_restarts(references, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(**CASES["ppo"]))
    process = start(tmp_path, "config.yaml", "--name", "a")
    while not list((tmp_path / "results").glob("*/a/random_baseline_rewards.npz")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    finish(process)
    code, output = finish(start(tmp_path, "--resume"))
    assert code == 0, output
    assert content(run_folder(tmp_path)) == references("ppo")


def test_a_run_killed_before_its_first_boundary_restarts_from_its_initial_policy(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(**CASES["sac"]))
    assert finish(start(tmp_path, "config.yaml", "--name", "first"))[0] == 0
    policy = next(tmp_path.glob("results/*/first")) / "checkpoints" / "050" / "model.zip"
    code, output = finish(start(tmp_path, "config.yaml", "--name", "b", "-i", policy))
    assert code == 0, output
    process = start(tmp_path, "config.yaml", "--name", "a", "-i", policy)
    while not list((tmp_path / "results").glob("*/a/random_baseline_rewards.npz")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    finish(process)
    assert not list(run_folder(tmp_path).glob("state/0*")), "killed too late to show anything"
    policy.unlink()  # the run has its own copy
    code, output = finish(start(tmp_path, "--resume", run_folder(tmp_path)))
    assert code == 0, output
    found, expected = content(run_folder(tmp_path)), content(next(tmp_path.glob("results/*/b")))
    assert found == expected
    fresh = content(next(tmp_path.glob("results/*/first")))
    assert fresh["evaluations.npz:results"] != expected["evaluations.npz:results"]


def test_a_run_killed_before_its_records_were_written_writes_them_on_resume(references, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(**CASES["ppo"]))
    process = start(tmp_path, "config.yaml", "--name", "a")
    while not list((tmp_path / "results").glob("*/a/experiment.yaml")):
        assert process.poll() is None
        time.sleep(0.0005)
    process.kill()
    finish(process)
    # As in earlier versions: records written after the experiment, and no manifest.
    for name in ("provenance.json", "seeds.json", "manifest.json"):
        (run_folder(tmp_path) / name).unlink(missing_ok=True)
    code, output = finish(start(tmp_path, "--resume"))
    assert code == 0, output
    assert content(run_folder(tmp_path)) == references("ppo")
    assert (run_folder(tmp_path) / "seeds.json").exists()


def test_leftovers_of_a_kill_after_the_last_boundary_are_deleted(references, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG.format(**CASES["ppo"]))
    assert finish(start(tmp_path, "config.yaml", "--name", "a"))[0] == 0
    state = run_folder(tmp_path) / "state"
    shutil.copytree(state / "000000000500", state / "000000000400")
    folder = RunDirectory(run_folder(tmp_path))  # killed after its last boundary
    folder.write_json("provenance.json", folder.read_json("provenance.json") | {"end": None})
    code, output = finish(start(tmp_path, "--resume", run_folder(tmp_path)))
    assert code == 0, output
    assert content(run_folder(tmp_path)) == references("ppo")


def test_worker_processes_do_not_outlive_a_stopped_run(tmp_path):
    config = CONFIG.format(**CASES["ppo"]) + "vec_env: subproc\n"
    (tmp_path / "config.yaml").write_text(config.replace("600", "600000"))
    process = start(tmp_path, "config.yaml", "--name", "a")
    wait_for_timestep(tmp_path, process, 200, 0)
    children = children_of(process.pid)
    assert len(children) >= 2
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 130 and "Traceback" not in output, output
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.1)
