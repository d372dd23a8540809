"""A search whose trainings take seconds, run as a user would run it; and its comparable results."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TASK = "SAC_Pendulum-v1"
SECONDS = 300
# Columns of trials.csv that depend on the clock.
TIMES = ("datetime_start", "datetime_complete", "duration")


def search_data(**settings):
    """Rounds of 4 and 2 trials of three segments each, and the best one retrained.

    Args:
        settings: of the search; `experiment` changes settings of the experiment.
    """
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "batch_size": [8, 16, 32]}
    later = {"learning_rate": {"around": [0.5, 2]}, "batch_size": [8, 16, 32]}
    experiment = {
        "algo": "sac",
        "env": "Pendulum-v1",
        "env_kwargs": {"max_episode_steps": 50},
        "total_timesteps": 360,
        "segment": 120,
        "evaluation": {"interval": 120, "n_episodes": 2},
        "hyperparameters": {"learning_starts": 31, "policy_kwargs": {"net_arch": [16]}},
    }
    return {
        "batch": 2,
        "rounds": [{"n_trials": 4, "space": space}, {"n_trials": 2, "space": later}],
        "retraining": {"n_best": 1, "n_seeds": 2},
        "sampler": {"n_startup_trials": 2},
        **settings,
        "experiment": {**experiment, **settings.get("experiment", {})},
    }


def one_round(n_trials, **settings):
    """A single round without retraining."""
    data = search_data(retraining={"n_best": 0}, **settings)
    return {**data, "rounds": [{**data["rounds"][0], "n_trials": n_trials}]}


def write(home, data, name="search.yaml"):
    path = home / name
    path.write_text(yaml.safe_dump(data))
    return path


def start(home, *arguments):
    """Start `gallop tune ARGUMENTS -f home/o`; its output goes to a file, not to a pipe."""
    log = (home / "output").open("ab")
    with log:
        return subprocess.Popen(
            [sys.executable, "-m", "gallop", "tune", *map(str, arguments), "-f", str(home / "o")],
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(HERE), "COLUMNS": "200"},
        )


def finish(process, home):
    """Exit code, and what was printed since the last call."""
    try:
        code = process.wait(SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    return code, output(home)


def output(home):
    path = home / "output"
    text = path.read_text()
    path.write_text("")
    return text


def run(home, *arguments):
    return finish(start(home, *arguments), home)


def tune(home, *arguments, data=None):
    """Run a search to its end, undisturbed; returns the folder of its first round."""
    write(home, data or search_data())
    code, text = run(home, "search.yaml", "--reproducible", "--name", "x", *arguments)
    assert code == 0, text
    assert "Traceback" not in text
    return folder(home)


def tuned_once(tmp_path_factory, name, *arguments, data=None):
    """Run a search to its end, undisturbed, once for all tests that compare with it.

    pytest's parallel processes share what the first of them has made.

    Args:
        name: of the search; the same name means the same arguments and data.

    Returns:
        The home of the search, and how many seconds it took.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    home = shared / f"search-{name}"
    with (shared / f"search-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "seconds").exists():
            shutil.rmtree(home, ignore_errors=True)  # of an attempt that failed
            home.mkdir()
            began = time.monotonic()
            tune(home, *arguments, data=data)
            (home / "seconds").write_text(str(time.monotonic() - began))
        fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone would not, if a forked child has it
    return home, float((home / "seconds").read_text())


def folder(home, name="x"):
    return next((home / "o" / "plots").glob("*")) / name


def trials(of_round):
    """Rows of trials.csv without times and without the progress of stopped trials."""
    with (of_round / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for name in TIMES:
            del row[name]
        if row["state"] != "COMPLETE":
            row.pop("user_attrs_n_timesteps", None)
    # A column exists as soon as one trial has a value in it.
    return [{name: text for name, text in row.items() if text} for row in rows]


def again(of_round):
    """Candidate -> scores on the fresh seeds."""
    results = json.loads((of_round / "results.json").read_text())
    assert results["finished"]
    return {one["name"]: one["scores"] for one in results["trained_again"]}


def outcome(first):
    """Everything of a search that must be equal, regardless of how often it was stopped."""
    rounds = [first, *sorted(first.parent.glob(f"{first.name}_round*"))]
    found = {path.name: trials(path) for path in rounds}
    for rows in found.values():
        assert [int(row["number"]) for row in rows] == list(range(len(rows)))
    return found, again(rounds[-1])


def processes_of(home):
    """pid -> command line of every process whose command line names this folder."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(home) in line and int(entry.name) != os.getpid():
                found[int(entry.name)] = line
    return found


def workers_of(home):
    """pid -> folder of every active training."""
    return {
        pid: line.split()[-1]
        for pid, line in processes_of(home).items()
        if "gallop.execution.worker" in line
    }


def zombies_of(pid):
    """Children of a process that have ended and were not waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] == "Z":
                found.append(int(stat.parent.name))
    return found


def nobody_is_left(home, seconds):
    """Whether every process of this folder ends within `seconds`."""
    deadline = time.monotonic() + seconds
    while processes_of(home):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_until(condition, process, seconds=120):
    """Wait for a condition; the search must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the search ended too early"
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def kill(pid, number=signal.SIGKILL):
    """Send a signal; returns whether the process still existed."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
