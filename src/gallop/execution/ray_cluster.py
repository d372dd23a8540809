"""The engine for a Ray cluster: one Ray task per work item, on a folder that all nodes share.

Ray only places the work. A task starts the same process as on one machine (child.py) and watches
over it (ray_node.py). Whether a run is finished is read from its folder, and whether it is still at
work from its lease there (fence.py). Ray restarts nothing: it can take minutes to notice that a
task is lost, and the lost one may still write. So an item whose node is dead, or whose lease has
stopped, is fenced off and submitted again here.

Ray's own documentation: https://docs.ray.io/en/releases-2.60.0/ray-core/scheduling/labels.html
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gallop.errors import (
    ExperimentError,
    RunError,
    causes,
    counted,
    described,
    printable,
    shortened,
)
from gallop.execution.child import Deaths, signal_of
from gallop.execution.ray_node import SUPERSEDED, Order, Told, installed
from gallop.execution.work import HELD, NO_ROOM, Ended, WorkItem
from gallop.run_folder import fence
from gallop.run_folder.consent import for_other_machines
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.full_disk import DiskFullError

if TYPE_CHECKING:
    from ray import ObjectRef

SECONDS_TO_CONNECT = 5.0
SECONDS_TO_TELL = 120.0  # for a node to start a process and import Gallop
SECONDS_BETWEEN_LOOKS = 2.0  # at the nodes and the leases
SECONDS_WITHOUT_HEAD = 20.0  # after which the cluster is given up
SECONDS_OF_A_LEASE = 30.0  # without a beat, after which a run is taken from its process
SECONDS_TO_STOP = 40.0  # for all tasks to end, which is longer than their processes may take

log = logging.getLogger(__name__)


class RayCluster:
    """A Ray cluster, as a place for work items."""

    def __init__(self, address: str = "auto") -> None:
        """
        Args:
            address: HOST:PORT of the cluster's head; "auto": the cluster of this machine.
        """
        self.address = address
        self._nodes: _Nodes | None = None

    def n_workers(self, asked: int | None, n_threads: int | None) -> int:
        """Return the number of items in parallel: as requested, or as many as there are CPUs.

        More than that may be requested: tasks wait for nodes that are still to come.
        """
        return asked or max(1, self._connected().n_cpus() // (n_threads or 1))

    def threads(self, n_workers: int) -> int:
        """Return one thread per item."""
        return 1

    def engine(self, n_workers: int, n_threads: int | None, store: Path) -> RayTasks:
        """Return an engine that submits tasks, after each node has shown that it can run them."""
        nodes = self._connected()
        nodes.check(store)
        return RayTasks(nodes, n_workers, n_threads or 1)

    def _connected(self) -> _Nodes:
        if self._nodes is None:
            _connect(self.address)
            self._nodes = _Nodes(self.address)
        return self._nodes


class RayTasks:
    """Runs work items as Ray tasks."""

    def __init__(self, nodes: _Nodes, n_workers: int, n_threads: int) -> None:
        self._nodes, self._n_workers, self._n_threads = nodes, n_workers, n_threads
        self._waiting: deque[WorkItem] = deque()
        self._placed: dict[Path, _Placed] = {}
        self._deaths = Deaths()
        self._watched: dict[Path, _Watch] = {}
        """The leases of runs that others hold."""
        self._task = _task(_supervise_here(), n_threads)
        self._looked = 0.0

    @property
    def is_hungry(self) -> bool:
        """Whether another item could start at once."""
        return len(self._placed) + len(self._waiting) < self._n_workers

    def submit(self, item: WorkItem) -> None:
        """Accept an item; a later `poll` submits it to Ray."""
        self._waiting.append(item)

    def poll(self) -> list[Ended]:
        """Submit what can start, submit lost items again, and return what has ended.

        Raises:
            DiskFullError: if the disk is full; the item waits for the next call.
            RunError: if the cluster is gone.
        """
        with _explaining(self._nodes.address):
            ended = [end for placed in self._ready() if (end := self._end(placed)) is not None]
            if time.monotonic() - self._looked > SECONDS_BETWEEN_LOOKS:
                self._looked = time.monotonic()
                self._nodes.look()
                self._take_back_lost_items()
            self._begin()
        return ended

    def cancel(self, folder: Path) -> None:
        """Stop the item of this folder at the next safe moment; `poll` does not return it."""
        self._waiting = deque(item for item in self._waiting if item.folder != folder)
        placed = self._placed.pop(folder, None)
        if placed is not None:
            placed.cancel()

    def close(self) -> None:
        """Stop everything at the next safe moment, and wait for it."""
        import ray

        if self._nodes.is_lost:  # Ray would wait for it, and then end this process
            return
        refs = [placed.ref for placed in self._placed.values()]
        for folder in [*(item.folder for item in self._waiting), *self._placed]:
            self.cancel(folder)
        with contextlib.suppress(Exception):  # the cluster may be gone, and its tasks with it
            ray.wait(refs, num_returns=len(refs), timeout=SECONDS_TO_STOP) if refs else None

    # --- starting ---

    def _begin(self) -> None:
        for item in list(self._waiting):
            if len(self._placed) >= self._n_workers or not self._nodes.can_run():
                return
            # Another process may still hold it, such as one that has yet to stop.
            is_locked = RunDirectory(item.folder).is_locked()
            if is_locked and not self._is_abandoned(item.folder):
                continue
            self._waiting.remove(item)
            self._watched.pop(item.folder, None)
            token = fence.raise_fence(item.folder, break_lock=is_locked)
            order = Order(
                folder=str(item.folder.absolute()),
                command=list(item.command),
                token=token,
                n_threads=self._n_threads,
                environment=for_other_machines(),
                working_folder=str(Path.cwd()),
            )
            ref = self._nodes.submit(self._task, order)
            self._placed[item.folder] = _Placed(item, token, ref)

    def _is_abandoned(self, folder: Path) -> bool:
        """Whether a locked run was given to a process that does not answer any more.

        A process to which no engine gave it, such as a command on another machine, has no lease.
        """
        watch = self._watched.setdefault(folder, _Watch())
        lease = fence.read_lease(folder)
        if lease is None or lease.token != fence.read_token(folder):
            return False
        return not self._nodes.is_alive(lease.node) or watch.has_stopped(lease)

    # --- ending ---

    def _ready(self) -> list[_Placed]:
        import ray

        by_ref = {placed.ref: placed for placed in self._placed.values()}
        if not by_ref:
            return []
        ready, _ = ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0)
        return [by_ref[ref] for ref in ready]

    def _end(self, placed: _Placed) -> Ended | None:
        """Return how an item ended; None if it goes on in another task."""
        import ray

        del self._placed[placed.item.folder]
        try:
            code, reason = ray.get(placed.ref)
        except ray.exceptions.RayTaskError as error:
            return Ended(placed.item, 1, shortened(printable(described(error.cause))))
        except ray.exceptions.RayError as error:  # a process of Ray, or its node, is gone
            log.info("%s: %s", placed.item.folder, described(error))
            return self._died(placed.item, f"its Ray task was lost: {described(error)}")
        if code in (HELD, SUPERSEDED, NO_ROOM):
            self._waiting.appendleft(placed.item)
            if code == NO_ROOM:
                raise DiskFullError(placed.item.folder)
            return None
        if signal_of(code) is not None:
            return self._died(placed.item, reason)
        return Ended(placed.item, code, reason)

    def _died(self, item: WorkItem, reason: str) -> Ended | None:
        if self._deaths.may_go_on(item.folder):
            self._waiting.appendleft(item)
            return None
        return Ended(item, 1, self._deaths.explained(reason))

    def _take_back_lost_items(self) -> None:
        """Take the items from nodes that are dead, and from processes that do not answer."""
        for placed in list(self._placed.values()):
            lease = fence.read_lease(placed.item.folder)
            if lease is None or lease.token != placed.token:  # not started yet
                is_lost = placed.was_there_before(self._nodes.last_death)
            else:
                is_lost = not self._nodes.is_alive(lease.node) or placed.watch.has_stopped(lease)
            if is_lost:
                where = "a dead node" if lease is None else lease.host
                log.info("%s: taken back from %s", placed.item.folder, where)
                del self._placed[placed.item.folder]
                placed.cancel()
                fence.raise_fence(placed.item.folder, break_lock=True)
                self._waiting.appendleft(placed.item)


class _Placed:
    """An item that has been submitted to Ray."""

    def __init__(self, item: WorkItem, token: str, ref: ObjectRef[Any]) -> None:
        self.item, self.token, self.ref = item, token, ref
        self.watch = _Watch()
        self._since = time.monotonic()

    def was_there_before(self, moment: float) -> bool:
        """Whether it was submitted before a moment of `time.monotonic`."""
        return self._since < moment

    def cancel(self) -> None:
        import ray

        with contextlib.suppress(Exception):  # the task may be on a dead node
            ray.cancel(self.ref)


class _Watch:
    """Watches a lease by our own clock: clocks of several machines differ."""

    def __init__(self) -> None:
        self._seen: tuple[str, int] | None = None
        self._since = 0.0

    def has_stopped(self, lease: fence.Lease) -> bool:
        """Whether the lease has had no new beat for too long."""
        now = time.monotonic()
        if self._seen != (lease.token, lease.beat):
            self._seen, self._since = (lease.token, lease.beat), now
        return now - self._since > SECONDS_OF_A_LEASE


# --- nodes ---------------------------------------------------------------------------------------


class _Nodes:
    """The nodes of the cluster, and which of them may run our items."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.last_death = -1.0
        """When a node was last seen to be dead, by `time.monotonic`."""
        self._alive: dict[str, int] = {}
        """Node -> its CPUs."""
        self._good: set[str] = set()
        self._store: Path | None = None
        self._asked: dict[str, _Question] = {}
        self._silent_since: float | None = None
        self.is_lost = False
        """Whether the head is gone, and every task with it."""
        self.look()

    def n_cpus(self) -> int:
        """Return the CPUs of all nodes."""
        return sum(self._alive.values())

    def can_run(self) -> bool:
        """Whether any node may run our items."""
        return bool(self._good)

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
            problem = told if isinstance(told, Silent) else _problem(told, self._store)
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
                raise _lost(self.address, error.strerror or str(error)) from None
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
                    if isinstance(told, Silent):  # it may just have died
                        log.warning("%s; it is not used", told)
                    elif problem := _problem(told, self._store):
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
                "the nodes' processors differ (%s): a run that moves from one to another is not "
                "bit-identical to one that stays",
                ", ".join(sorted(sets)),
            )

    def _answers(self) -> list[tuple[str, Told | Silent]]:
        """Return what nodes have told since the last call."""
        found = []
        for node, question in list(self._asked.items()):
            told = question.answer()
            if told is not None:
                del self._asked[node]
                question.close()
                found.append((node, told))
        return found

    def submit(self, task: Any, order: Order) -> ObjectRef[Any]:
        """Submit a task to the nodes that may run it."""
        selector = {"ray.io/node-id": f"in({','.join(sorted(self._good))})"}
        name = "/".join(Path(order["folder"]).parts[-3:])
        ref: ObjectRef[Any] = task.options(label_selector=selector, name=name).remote(order)
        return ref


class Silent(str):
    """Why a node does not tell what it has installed."""

    __slots__ = ()


class _Question:
    """A question to a node about what it has installed, and whether it sees the store."""

    def __init__(self, node: str, store: Path) -> None:
        self.node = node
        self._folder = tempfile.TemporaryDirectory(prefix=".new-", dir=store)
        path = Path(self._folder.name)
        path.chmod(0o777)  # nodes may run as other users
        (path / "driver").write_bytes(b"")
        selector = {"ray.io/node-id": node}
        task = _task(_tell_here(), 0).options(label_selector=selector, name="gallop: probe")
        self._ref: ObjectRef[Any] = task.remote(str(path), node)

    def answer(self) -> Told | Silent | None:
        """Return what the node tells; why it cannot; None if it has not answered yet."""
        import ray

        ready, _ = ray.wait([self._ref], timeout=0)
        if not ready:
            return None
        try:
            told: Told = ray.get(self._ref)
        except ray.exceptions.RayError as error:
            return Silent(f"node {self.node[:8]} cannot be asked: {described(error)}")
        if told["sees"]:
            told["sees"] = Path(self._folder.name, self.node).is_file()
        return told

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._folder.cleanup()


def _problem(told: Told, store: Path) -> str:
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


def _task(function: Any, n_cpus: int) -> Any:
    """Return a Ray task that is never repeated by Ray; its process ends with it."""
    import ray

    return ray.remote(num_cpus=n_cpus, max_calls=1, max_retries=0)(function)


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


# --- connecting ----------------------------------------------------------------------------------


def _connect(address: str) -> None:
    """Connect this process to the cluster.

    Raises:
        ExperimentError: if Ray is not installed, or the cluster cannot be reached.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    if address != "auto":
        _check_address(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        # Ray puts our current folder first on the path of its workers, where any file could be
        # mistaken for a module (own_code.py): we are in an empty one meanwhile.
        with _silent(), tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
            _log_what_ray_prints()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError
        raise ExperimentError(f"--address {address}: {_why_not_connected(error)}") from None
    finally:  # Ray ends the process at SIGTERM, but we stop at a safe point
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError):  # not the main thread
                signal.signal(number, handler)


_VARIABLES = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # what matters is in the exceptions
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # try to connect once, for 41 s, not 20 times
}


def _has_token() -> bool:
    """Whether there is a token of Ray's; Ray uses it for an explicit address only if told to."""
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(named) or (Path.home() / ".ray" / "auth_token").is_file()


def _ray() -> Any:
    """Import Ray.

    Raises:
        ExperimentError: if it is not installed.
    """
    for name, value in _VARIABLES.items():  # read when Ray is imported
        os.environ.setdefault(name, value)
    if _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ImportError:
        raise ExperimentError(
            '--engine ray: Ray is not installed: pip install "gallop-rl[ray]"'
        ) from None
    if not hasattr(ray, "init"):  # a user's ray.py
        raise ExperimentError(f"--engine ray: {ray.__file__} is not Ray: rename it")
    return ray


def _log_what_ray_prints() -> None:
    """Log the messages about nodes that Ray prints on standard output, whatever it is asked."""
    from ray._private import worker

    def to_log(data: Any, ignore_prefix: bool = False) -> None:
        log.info("Ray: %s", " ".join(map(str, data.get("lines", ())))[:200])

    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = to_log


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Drop what C++ prints to standard error: its exceptions say the same."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  (a device)
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _why_not_connected(error: Exception) -> str:
    """Say what is missing, where Ray does not."""
    told = " ".join(map(str, causes(error)))
    if "No node info found" in told:
        return (
            "this machine is not a node of that cluster, as the one that submits must be: "
            "ray start --address HOST:PORT --num-cpus 0"
        )
    if "Could not find any running Ray" in told:
        return "no Ray cluster runs on this machine; name one with --address HOST:PORT"
    if "Failed to connect to Ray cluster" in told:
        return (
            "there is no Ray cluster, or it has another token: ~/.ray/auth_token, or "
            "RAY_AUTH_TOKEN, must be the same on all machines"
        )
    return described(error)


def _check_address(address: str) -> None:
    """Check that something listens there: Ray itself would try for more than ten minutes.

    Raises:
        ExperimentError: if not.
    """
    host, colon, port = address.rpartition(":")
    is_port = port.isdecimal() and 0 < int(port) < 1 << 16
    if not colon or not host or not is_port or "/" in address:
        raise ExperimentError(f"--address {address}: expected HOST:PORT, such as 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
    except OSError as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ExperimentError(
            f"--address {address}: no Ray cluster can be reached there ({reason}); start one with "
            "ray start --head"
        ) from None


@contextlib.contextmanager
def _explaining(address: str) -> Iterator[None]:
    """Turn the loss of the cluster into an error that says what to do."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        raise _lost(address, described(error)) from None


def _lost(address: str, why: str) -> RunError:
    return RunError(
        f"the Ray cluster at {address} does not answer any more ({why}); every run is kept up to "
        "its last boundary: start the cluster again, then resume with the same flags"
    )
