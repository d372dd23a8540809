"""Runs on a Ray cluster whose nodes, workers and driver are killed at random: each ends once, with
the same bits as without a cluster."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray_nodes
import runs
import yaml

from gallop.run_folder import fence
from gallop.run_folder.directory import RunDirectory

pytest.importorskip("ray")

N_RUNS, N_KILLS = 12, 9
SECONDS = 900  # for the whole test
OFF_POLICY = {"buffer_size": 250, "batch_size": 16, "learning_starts": 31}
EXPERIMENT = runs.experiment("sac", OFF_POLICY, learner="native", total_timesteps=6_000)
EXPERIMENT |= {"evaluation": {"interval": 3_000, "n_episodes": 2}, "segment": 500}
SEEDS = [f"--seeds=0..{N_RUNS - 1}"]


def start(home, name, *arguments):
    command = [sys.executable, "-m", "gallop", "run", "experiment.yaml", *SEEDS, "--name", name]
    with (home / "output").open("ab") as output:
        return subprocess.Popen(
            [*command, *arguments],
            cwd=home,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        )


def supervisors_of(home):
    """The processes of Ray that watch over them."""
    parents = set()
    for pid in ray_nodes.processes_in(home):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.add(int(fields[1]))
    return parents


@pytest.mark.slow
def test_twelve_runs_end_once_and_bit_identically(tmp_path):
    generator = random.Random(24)
    runs.write(tmp_path, EXPERIMENT)
    assert start(tmp_path, "alone").wait(SECONDS) == 0
    killed = {"node": 0, "worker": 0, "training": 0, "driver": 0}
    with ray_nodes.started(3) as nodes:
        command = ["--engine", "ray", "--address", nodes.address]
        driver = start(tmp_path, "cluster", *command)
        deadline = time.monotonic() + SECONDS
        kinds = [*killed, *killed, "node"]
        generator.shuffle(kinds)
        while (code := driver.poll()) is None:
            assert time.monotonic() < deadline, (tmp_path / "output").read_text()
            time.sleep(0.2)
            working = ray_nodes.processes_in(tmp_path / "results")
            if not kinds or not working:
                continue
            time.sleep(generator.uniform(0, 4))
            kind = kinds[-1]
            if kind == "node":
                nodes.kill()
                nodes.add()
            elif kind == "driver":
                driver.kill()
                driver.wait()
                driver = start(tmp_path, "cluster", *command)
            else:
                victims = working if kind == "training" else supervisors_of(tmp_path / "results")
                if not victims:
                    continue
                os.kill(generator.choice(sorted(victims)), signal.SIGKILL)
            killed[kind] += 1
            kinds.pop()
        assert code == 0, (tmp_path / "output").read_text()
        assert sum(killed.values()) == N_KILLS
        assert not ray_nodes.processes_in(tmp_path / "results")
    (alone,) = (tmp_path / "results").glob("*/alone")
    (group,) = (tmp_path / "results").glob("*/cluster")
    for seed in range(N_RUNS):
        expected, found = (runs.content(each / f"seed-{seed}") for each in (alone, group))
        assert runs.differences(found, expected) == []
        assert not list((group / f"seed-{seed}").rglob(".new-*"))
    summaries = [json.loads((each / "summary.json").read_text()) for each in (alone, group)]
    assert summaries[0] == summaries[1]
    assert len(summaries[0]["final"]["mean_return_of_seed"]) == N_RUNS


@pytest.mark.slow
def test_without_the_head_the_command_ends_with_one_line_and_goes_on_in_another_cluster(tmp_path):
    longer = {"total_timesteps": 60_000, "evaluation": {"interval": 30_000, "n_episodes": 2}}
    runs.write(tmp_path, EXPERIMENT | longer)
    seeds = ["--seeds=0..1", "--quiet"]  # the last ones count
    assert start(tmp_path, "alone", *seeds).wait(SECONDS) == 0
    with ray_nodes.started(2) as nodes:
        command = [*seeds, "--engine", "ray", "--address", nodes.address]
        driver = start(tmp_path, "cluster", *command)
        while not list(tmp_path.glob("results/*/cluster/seed-*/state/0*")):
            assert driver.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.1)
        nodes.behead()
        assert driver.wait(SECONDS) == 2
        output = (tmp_path / "output").read_text()
        assert "does not answer any more" in output and output.count("\n") == 1, output
    with ray_nodes.started(2) as nodes:
        command = [*seeds, "--engine", "ray", "--address", nodes.address]
        assert start(tmp_path, "cluster", *command).wait(SECONDS) == 0
    (alone,) = (tmp_path / "results").glob("*/alone")
    (group,) = (tmp_path / "results").glob("*/cluster")
    for seed in range(2):
        expected, found = (runs.content(each / f"seed-{seed}") for each in (alone, group))
        assert runs.differences(found, expected) == []


@pytest.mark.slow
def test_a_grid_on_a_cluster_that_loses_a_node_has_the_results_of_one_machine(tmp_path):
    common = {name: value for name, value in EXPERIMENT.items() if name not in ("algo", "env")}
    grid = {
        "experiment": common,
        "algorithms": {"sac": {}, "td3": {}},
        "tasks": ["Pendulum-v1", "MountainCarContinuous-v0"],
        "training_seeds": "0..1",
        "presets": False,
    }
    results = {}
    for name in ("alone", "cluster"):
        (home := tmp_path / name).mkdir()
        (home / "grid.yaml").write_text(yaml.safe_dump(grid))
        command = [sys.executable, "-m", "gallop", "experiment", "grid.yaml"]
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        if name == "alone":
            subprocess.run(command, cwd=home, check=True, capture_output=True, timeout=SECONDS)
        else:
            with ray_nodes.started(3) as nodes:
                command += ["--engine", "ray", "--address", nodes.address]
                driver = subprocess.Popen(
                    command, cwd=home, env=environment, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
                with driver:
                    while not list(home.glob("experiments/grid/**/state/0*")):
                        assert driver.poll() is None, driver.stdout.read()
                        time.sleep(0.1)
                    nodes.kill()
                    output = driver.communicate(timeout=SECONDS)[0]
                    assert driver.returncode == 0, output
        results[name] = home / "experiments" / "grid"
    folders = sorted(f.parent for f in results["alone"].rglob("segments.csv"))
    assert len(folders) == 8
    for folder in folders:
        found = results["cluster"] / folder.relative_to(results["alone"])
        assert runs.differences(runs.content(found), runs.content(folder)) == []
    found, expected = (json.loads((each / "summary.json").read_text()) for each in results.values())
    assert found == expected


@pytest.mark.slow
def test_runs_wait_for_a_node_that_can_run_them(tmp_path):
    """As on Kubernetes, where the head has no CPUs and the others may come later."""
    runs.write(tmp_path, EXPERIMENT)
    with ray_nodes.started(1, cpus_of_the_head=0) as nodes:
        command = ["--seeds=0..1", "--quiet", "--engine", "ray", "--address", nodes.address]
        assert start(tmp_path, "refused", *command).wait(SECONDS) == 2
        output = (tmp_path / "output").read_text()
        assert "no node has 1 CPU, as a run needs" in output and output.count("\n") == 1, output
        assert not list(tmp_path.glob("results/*/refused"))
        driver = start(tmp_path, "waiting", *command, "--workers=2")
        while not list(tmp_path.glob("results/*/waiting/seed-1/experiment.yaml")):
            assert driver.poll() is None, (tmp_path / "output").read_text()
            time.sleep(0.1)
        time.sleep(5)
        assert driver.poll() is None
        nodes.add()
        assert driver.wait(SECONDS) == 0
    (group,) = tmp_path.glob("results/*/waiting")
    for seed in range(2):
        assert fence.read_lease(group / f"seed-{seed}").pid > 0
        assert RunDirectory(group / f"seed-{seed}").is_finished()
