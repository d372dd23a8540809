"""The nodes of a Ray cluster: which are there, and which of them may run our items.

A node is asked what it has installed, and whether it sees the folder of all runs, before it gets
any work. One that does not answer, or would compute other bits, gets none.

Ray's own documentation: https://docs.ray.io/en/releases-2.60.0/ray-core/scheduling/labels.html
"""

from __future__ import annotations

import contextlib
import logging
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gallop.errors import ExperimentError, counted, described
from gallop.execution.ray_connection import lost
from gallop.execution.ray_node import Order, Told, installed
from gallop.run_folder.run_paths import TEMPORARY

if TYPE_CHECKING:
    from ray import ObjectRef

SECONDS_TO_TELL = 120.0  # for a node to start a process and import Gallop
SECONDS_BETWEEN_LOOKS = 2.0  # at the nodes and the leases
SECONDS_WITHOUT_HEAD = 20.0  # after which the cluster is given up

log = logging.getLogger(__name__)


class NodePool:
    """The nodes of the cluster, and which of them may run our items."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.last_death = -1.0
        """When a node was last seen to be dead, by `time.monotonic`."""
        self._alive: dict[str, int] = {}
        """Node -> its CPUs."""
        self._good: set[str] = set()
        """Those that may run our items."""
        self._store: Path | None = None
        self._asked: dict[str, _Question] = {}
        self._silent_since: float | None = None
        self.is_lost = False
        """Whether the head is gone, and every task with it."""
        self._supervise = _task(_supervise_here())
        self.look()

    def n_slots(self, n_threads: int) -> int:
        """Return how many items with that number of threads the nodes can run at a time."""
        usable = self._alive if self._store is None else self._good  # before and after `check`
        return sum(self._alive[node] // n_threads for node in usable)

    def is_alive(self, node: str) -> bool:
        """Whether a node is part of the cluster and answers."""
        return node in self._alive

    def look(self) -> None:
        """Note which nodes have died, and ask new ones what they have installed.

        Raises:
            RunError: if the head has not answered for a while. Ray itself would end this process
                after a minute, without a word.
        """
        import ray

        if not self._head_answers():
            return
        before = self._alive
        self._alive = {
            node["NodeID"]: int(node["Resources"].get("CPU", 0))
            for node in ray.nodes()  # type: ignore[no-untyped-call]
            if node["Alive"]
        }
        if before.keys() - self._alive.keys():
            self.last_death = time.monotonic()
        self._good &= self._alive.keys()
        if self._store is None:
            return
        for node in self._alive.keys() - before.keys():
            self._asked[node] = _Question(node, self._store)
        for node, told in self._answers():
            problem = told if isinstance(told, _Silent) else problem_of(told, self._store)
            if problem:
                log.warning("%s; it is not used", problem)
            else:
                self._good.add(node)

    def _head_answers(self) -> bool:
        import ray

        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), SECONDS_BETWEEN_LOOKS).close()
        except OSError as error:
            self._silent_since = self._silent_since or time.monotonic()
            if time.monotonic() - self._silent_since > SECONDS_WITHOUT_HEAD:
                self.is_lost = True
                raise lost(self.address, error.strerror or str(error)) from None
            return False
        self._silent_since = None
        return True

    def check(self, store: Path) -> None:
        """Ask all nodes what they have installed, and whether they see the store.

        Raises:
            ExperimentError: if a node cannot run our items.
        """
        self._store = store.absolute()
        self._asked = {node: _Question(node, self._store) for node in self._alive}
        sets, until = set(), time.monotonic() + SECONDS_TO_TELL
        try:
            while self._asked and time.monotonic() < until:
                for node, told in self._answers():
                    if isinstance(told, _Silent):  # it may just have died
                        log.warning("%s; it is not used", told)
                    elif problem := problem_of(told, self._store):
                        raise ExperimentError(f"--address {self.address}: {problem}")
                    else:
                        self._good.add(node)
                        sets.add(told["instruction_set"])
                time.sleep(0.05)
        except BaseException:
            for question in self._asked.values():
                question.close()
            raise
        if not self._good:
            raise ExperimentError(
                f"--address {self.address}: none of {counted(len(self._alive), 'node')} answers"
            )
        if len(sets) > 1:
            log.warning(
                "the nodes' processors differ (%s): a run that moves to one without the "
                "instruction set it began with is not bit-identical to one that stays",
                ", ".join(sorted(sets)),
            )

    def _answers(self) -> list[tuple[str, Told | _Silent]]:
        """Return what nodes have told since the last call."""
        found = []
        for node, question in list(self._asked.items()):
            told = question.answer()
            if told is not None:
                del self._asked[node]
                question.close()
                found.append((node, told))
        return found

    def submit(self, order: Order) -> ObjectRef[Any]:
        """Submit an item to the nodes that may run it."""
        able = sorted(node for node in self._good if self._alive[node] >= order["n_threads"])
        selector = {"ray.io/node-id": f"in({','.join(able)})"}
        name = "/".join(Path(order["folder"]).parts[-3:])
        task = self._supervise.options(
            num_cpus=order["n_threads"], label_selector=selector, name=name
        )
        ref: ObjectRef[Any] = task.remote(order)
        return ref


class _Silent(str):
    """Why a node does not tell what it has installed."""

    __slots__ = ()


class _Question:
    """A question to a node about what it has installed, and whether it sees the store."""

    def __init__(self, node: str, store: Path) -> None:
        self.node = node
        self._folder = tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=store)
        path = Path(self._folder.name)
        path.chmod(0o777)  # nodes may run as other users
        (path / "driver").write_bytes(b"")
        selector = {"ray.io/node-id": node}
        task = _task(_tell_here()).options(label_selector=selector, name="gallop: probe")
        self._ref: ObjectRef[Any] = task.remote(str(path), node)

    def answer(self) -> Told | _Silent | None:
        """Return what the node tells; why it cannot; None if it has not answered yet."""
        import ray

        ready, _ = ray.wait([self._ref], timeout=0)
        if not ready:
            return None
        try:
            told: Told = ray.get(self._ref)
        except ray.exceptions.RayError as error:
            return _Silent(f"node {self.node[:8]} cannot be asked: {described(error)}")
        if told["sees"]:
            told["sees"] = Path(self._folder.name, self.node).is_file()
        return told

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.cleanup()


def problem_of(told: Told, store: Path) -> str:
    """Return why a node cannot run our items; empty if it can."""
    if told["missing"]:
        return f"node {told['host']} {told['missing']}"
    if not told["sees"]:
        return (
            f"{store} is not shared with node {told['host']}, which does not see the files in it: "
            "choose a folder that all nodes mount under this path"
        )
    ours = installed()
    for name in sorted(ours.keys() | told["versions"].keys(), key=lambda name: name != "gallop"):
        here, there = ours.get(name, "none"), told["versions"].get(name, "none")
        if here != there:
            return (
                f"node {told['host']} has {name} {there}, and this machine has {here}: a run would "
                "not have the same bits there"
            )
    return ""


# --- what Ray pickles ----------------------------------------------------------------------------


def _task(function: Any) -> Any:
    """Return a Ray task that is never repeated by Ray; its process ends with it."""
    import ray

    return ray.remote(num_cpus=0, max_calls=1, max_retries=0)(function)


def _supervise_here() -> Any:
    """Return a function that Ray sends as code, because nodes may have another version of us."""

    def supervise(order: Any) -> Any:
        import ray

        from gallop.execution import ray_node

        return ray_node.supervise(order, ray.get_runtime_context().get_node_id())

    return supervise


def _tell_here() -> Any:
    """Return a function that Ray sends as code, as above."""

    def tell(probe: str, node: str) -> Any:
        import platform

        try:
            from gallop.execution import ray_node
        except ImportError as error:
            try:
                from gallop import __version__ as version
            except ImportError:
                missing = f"does not have gallop installed ({error})"
            else:
                missing = f"has gallop {version}, which cannot run on a cluster ({error})"
            return {"host": platform.node(), "missing": missing}
        return ray_node.tell(probe, node)

    return tell
