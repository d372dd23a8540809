"""Measure what each engine takes for a work item that does nothing.

    python benchmarks/engine_overhead.py [--items 1000] [--rounds 1] [--output FILE.csv]

The same items, each in a folder of its own, are run by processes and by tasks on a Ray cluster of
one node on this machine, in turn, two at a time. An item starts a process that imports what
`gallop --help` needs, and ends. So the numbers are the time of an engine's own work: starting
processes, looking, leases, fences; and how many items a second the submitting process can handle.
Every measurement is added to the CSV. Measure on an idle machine. Needs Ray.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measurements import Measurements

from gallop.execution.processes import OneMachine
from gallop.execution.ray_cluster import RayCluster
from gallop.execution.work import Engine, Place, WorkItem

COLUMNS = ["round", "engine", "items", "workers", "seconds", "ms_an_item", "submitter_cpu_ms"]
WORKERS = 2
NOTHING = ("gallop.strict_json",)  # a module that only defines functions


def folders(root: Path, n: int) -> Iterator[Path]:
    for number in range(n):
        folder = root / f"{number:06d}"
        (folder / "state").mkdir(parents=True)
        yield folder


def run(engine: Engine, items: list[WorkItem]) -> None:
    """Run all items, as seed groups do, but look every 10 ms instead of every 100."""
    waiting, n_ended = list(reversed(items)), 0
    while n_ended < len(items):
        while waiting and engine.is_hungry:
            engine.submit(waiting.pop())
        for ended in engine.poll():
            assert ended.exit_code == 0, ended
            n_ended += 1
        time.sleep(0.01)
    engine.close()


def measure(place: Place, n: int) -> tuple[float, float]:
    """Return seconds of wall-clock time, and of this process's own processor time."""
    with tempfile.TemporaryDirectory() as root:
        items = [WorkItem(folder, NOTHING) for folder in folders(Path(root), n)]
        engine = place.engine(WORKERS, None, Path(root))
        began, cpu = time.perf_counter(), _own_seconds()
        run(engine, items)
        return time.perf_counter() - began, _own_seconds() - cpu


def _own_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    measurements = Measurements(options.output, COLUMNS)
    os.environ["RAY_AUTH_MODE"] = "disabled"  # a cluster of our own, on this machine alone
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": WORKERS, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    places = {"processes": OneMachine(), "ray": RayCluster(cluster.address)}
    times: dict[str, list[float]] = {name: [] for name in places}
    for number in range(options.rounds):
        for name, place in places.items():
            seconds, cpu = measure(place, options.items)
            times[name].append(1_000 * seconds / options.items)
            cpu_ms = 1_000 * cpu / options.items
            measurements.add(number, name, options.items, WORKERS, seconds, times[name][-1], cpu_ms)
            print(f"{name}: {times[name][-1]:.0f} ms an item, {cpu_ms:.1f} ms of the submitter")
    ray.shutdown()  # this process is connected to it
    cluster.shutdown()
    middle = {name: statistics.median(each) for name, each in times.items()}
    ratio = middle["ray"] / middle["processes"]
    print(
        f"median: {middle['processes']:.0f} and {middle['ray']:.0f} ms an item, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
