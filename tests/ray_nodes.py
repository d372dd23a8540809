"""A Ray cluster of several nodes on one machine, in a process of its own.

    python ray_nodes.py N CPUS_OF_THE_HEAD

It prints its address, then obeys one line of standard input at a time and answers each with a line:
`kill` (kills a node other than the head, at random), `add` (starts one), `behead` (kills the head's
server, without which there is no cluster). It ends with its input.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SMALL = {"num_cpus": 1, "object_store_memory": 80_000_000}


class Nodes:
    """The cluster, as seen by a test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.address = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> None:
        """Kill a node."""
        self._tell("kill")

    def add(self) -> None:
        """Start a node."""
        self._tell("add")

    def behead(self) -> None:
        """Kill the server of the head."""
        self._tell("behead")

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        assert self._answer() == "done"


@contextlib.contextmanager
def started(n: int, cpus_of_the_head: int = 1) -> Iterator[Nodes]:
    """Run a cluster of n nodes, each with one CPU."""
    command = [sys.executable, __file__, str(n), str(cpus_of_the_head)]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    with process:  # closes its pipes, and waits for its end
        yield Nodes(process)


def processes_in(home: Path) -> dict[int, list[bytes]]:
    """Return the processes that train below a folder: id -> command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(str(home).encode()) and b"seed-" in word for word in words):
            found[int(folder.name)] = words
    return found


def main(n: int, cpus_of_the_head: int) -> None:
    """Run the cluster until standard input ends."""
    from ray.cluster_utils import Cluster

    generator = random.Random(0)
    head = {**SMALL, "num_cpus": cpus_of_the_head, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(**SMALL) for _ in range(n - 1)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "kill":
            victim = nodes.pop(generator.randrange(len(nodes)))
            cluster.remove_node(victim, allow_graceful=False)
        elif line.strip() == "behead":
            cluster.head_node.kill_gcs_server(check_alive=False)
        else:
            nodes.append(cluster.add_node(**SMALL))
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
