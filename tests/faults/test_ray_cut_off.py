"""Real `ray start` nodes, each with its own network: one is cut off while it trains.

Its runs go on elsewhere, and what it writes after that does not reach them. A node that does not
see the shared folder, and one with another version of Gallop, are refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import runs

from gallop.run_folder import fence

pytest.importorskip("ray")


def may_make_networks():
    """Whether this machine lets us make network namespaces: root outside most containers."""
    name = f"gallop-probe-{os.getpid()}"
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("ip")):
        return False
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    alone = ["unshare", "--fork", "--pid", "--mount", "--uts", "--ipc", "--mount-proc", "true"]
    return made and subprocess.run(alone, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(
    not may_make_networks(), reason="needs root, iproute2 and namespaces"
)

SCRIPT = Path(__file__).parent / "ray_netns.sh"
BIN = Path(sys.executable).parent
HEALTH = (
    "RAY_health_check_period_ms=1000 RAY_health_check_timeout_ms=2000 "
    "RAY_health_check_failure_threshold=5"
)
OFF_POLICY = {"buffer_size": 250, "batch_size": 16, "learning_starts": 31}
EXPERIMENT = runs.experiment("sac", OFF_POLICY, learner="native", total_timesteps=30_000)
EXPERIMENT |= {"evaluation": {"interval": 15_000, "n_episodes": 2}, "segment": 500}
SECONDS = 600


class Network:
    """The nodes head, w1, w2 and a machine without Ray, desk."""

    def __init__(self, folder, tag, third_byte):
        self.head = f"10.77.{third_byte}.1:6379"
        self._environment = {
            **os.environ,
            "DIR": str(folder),
            "RAY": str(BIN / "ray"),
            "TAG": tag,
            "NET": f"10.77.{third_byte}",
            "NODE_ENV": HEALTH,
        }

    def do(self, *words, **more):
        command = ["bash", str(SCRIPT), *words]
        return subprocess.run(
            command, env=self._environment, check=True, capture_output=True, **more
        )

    def gallop(self, node, home, *arguments, **more):
        """Start `gallop` on a node."""
        command = ["bash", str(SCRIPT), "exec", node, str(BIN / "gallop"), *arguments]
        return subprocess.Popen(
            command, env=self._environment, cwd=home, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, **more,
        )  # fmt: skip


@contextlib.contextmanager
def network(folder, n_workers=2):
    """Names and addresses depend on the process, so that tests can run side by side."""
    folder.mkdir()
    nodes = Network(folder, f"g{os.getpid() % 100_000}", 1 + os.getpid() % 250)
    try:
        nodes.do("start", str(n_workers))
        yield nodes
    finally:
        nodes.do("stop")


@pytest.mark.slow
def test_a_node_that_is_cut_off_does_not_write_over_its_successor(tmp_path):
    runs.write(tmp_path, EXPERIMENT)
    command = ["run", "experiment.yaml", "--seeds=0..2"]
    subprocess.run([BIN / "gallop", *command, "--name=alone"], cwd=tmp_path, check=True,
                   capture_output=True)  # fmt: skip
    with network(tmp_path / "net") as nodes:
        ray = ["--engine", "ray", "--address", nodes.head]
        with nodes.gallop("head", tmp_path, *command, "--name=cluster", *ray) as driver:
            deadline, lost = time.monotonic() + SECONDS, None
            while lost is None:
                assert driver.poll() is None, driver.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.2)
                for folder in tmp_path.glob("results/*/cluster/seed-*"):
                    lease = fence.read_lease(folder)
                    if lease is not None and lease.host == "w1" and lease.beat > 1:
                        lost, before = folder, lease
            nodes.do("cut", "w1")
            while (lease := fence.read_lease(lost)) is None or lease.token == before.token:
                assert driver.poll() is None, driver.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.2)
            output = driver.communicate(timeout=SECONDS)[0]
            assert driver.returncode == 0, output
            assert "Traceback" not in output and "(raylet)" not in output, output
        nodes.do("heal", "w1")
        time.sleep(5)
        assert "was given to another process" in (lost / "worker.log").read_text()
    (alone,) = tmp_path.glob("results/*/alone")
    (group,) = tmp_path.glob("results/*/cluster")
    for seed in range(3):
        expected, found = (runs.content(each / f"seed-{seed}") for each in (alone, group))
        assert runs.differences(found, expected) == []
    summaries = [json.loads((each / "summary.json").read_text()) for each in (alone, group)]
    assert summaries[0] == summaries[1]


@pytest.mark.slow
def test_machines_that_cannot_take_part_are_refused_on_one_line(tmp_path):
    runs.write(tmp_path, EXPERIMENT)
    command = ["run", "experiment.yaml", "--seeds=0..1", "--name=a", "--quiet"]

    def said(nodes, node, home=tmp_path, **more):
        ray = ["--engine", "ray", "--address", nodes.head]
        with nodes.gallop(node, home, *command, *ray, **more) as driver:
            output = driver.communicate(timeout=SECONDS)[0]
        assert driver.returncode == 2, output
        assert output.count("\n") == 1, output
        assert not list(home.glob("results/*/a"))
        return output

    with network(tmp_path / "net", n_workers=1) as nodes:
        assert "this machine is not a node of that cluster" in said(nodes, "desk")
        # A folder of the node's own, under the same path.
        own = tmp_path / "own"
        own.mkdir()
        runs.write(own, EXPERIMENT)
        nodes.do("exec", "w1", "mount", "-t", "tmpfs", "none", str(own))
        assert f"{own} is not shared with node w1" in said(nodes, "head", own)
        # A node with another version of a dependency, as pip would have installed it.
        other = tmp_path / "other" / "filelock-9.9.9.dist-info"
        other.mkdir(parents=True)
        (other / "METADATA").write_text("Metadata-Version: 2.1\nName: filelock\nVersion: 9.9.9\n")
        nodes.do("kill", "w1")
        nodes._environment["NODE_ENV"] += f" PYTHONPATH={other.parent}"
        nodes.do("rejoin", "w1")
        nodes._environment["NODE_ENV"] = HEALTH
        assert "node w1 has filelock 9.9.9, and this machine has" in said(nodes, "head")
        # A wrong token.
        nodes._environment["NODE_ENV"] = HEALTH + f" RAY_AUTH_TOKEN={'0' * 64}"
        assert "has another token" in said(nodes, "head")
