"""The engine for a Ray cluster: one Ray task per work item, on a folder that all nodes share.

Ray only places the work. A task starts the same process as on one machine (child.py) and watches
over it (ray_node.py), on a node that has shown that it can run it (ray_pool.py). Whether a run is
finished is read from its folder, and whether it is still at work from its lease there (fence.py).
Ray restarts nothing: it can take minutes to notice that a task is lost, and the lost one may still
write. So an item whose node is dead, or whose lease has stopped, is fenced off and submitted again
here.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gallop.errors import ExperimentError, counted, described, printable, shortened
from gallop.execution.child import Deaths, signal_of
from gallop.execution.ray_connection import connect, explaining
from gallop.execution.ray_node import SUPERSEDED, Order
from gallop.execution.ray_pool import SECONDS_BETWEEN_LOOKS, NodePool
from gallop.execution.work import HELD, NO_ROOM, Ended, WorkItem
from gallop.run_folder import fence
from gallop.run_folder.consent import for_other_machines
from gallop.run_folder.directory import RunDirectory
from gallop.run_folder.full_disk import DiskFullError

if TYPE_CHECKING:
    from ray import ObjectRef

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
        self._nodes: NodePool | None = None

    def n_workers(self, asked: int | None, n_threads: int | None) -> int:
        """Return the number of items in parallel: as requested, or as many as the nodes can run.

        More than that may be requested: the others wait for nodes that are still to come.

        Raises:
            ExperimentError: if no node can run one, and no number is requested.
        """
        found = asked or self._connected().n_slots(n_threads or 1)
        if not found:
            raise ExperimentError(
                f"--address {self.address}: no node has {counted(n_threads or 1, 'CPU')}, as a run "
                "needs; start one, or set --workers to wait for it"
            )
        return found

    def threads(self, n_workers: int) -> int:
        """Return one thread per item."""
        return 1

    def engine(self, n_workers: int, n_threads: int | None, store: Path) -> RayTasks:
        """Return an engine that submits tasks, after each node has shown that it can run them."""
        nodes = self._connected()
        nodes.check(store)
        return RayTasks(nodes, n_workers, n_threads or 1)

    def _connected(self) -> NodePool:
        if self._nodes is None:
            connect(self.address)
            self._nodes = NodePool(self.address)
        return self._nodes


class RayTasks:
    """Runs work items as Ray tasks."""

    def __init__(self, nodes: NodePool, n_workers: int, n_threads: int) -> None:
        self._nodes, self._n_workers, self._n_threads = nodes, n_workers, n_threads
        self._waiting: deque[WorkItem] = deque()
        self._placed: dict[Path, _Placed] = {}
        self._deaths = Deaths()
        self._watched: dict[Path, _Watch] = {}
        """The leases of runs that others hold."""
        self._stopping: list[ObjectRef[Any]] = []
        """Tasks that were cancelled, and may not have ended yet."""
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
        with explaining(self._nodes.address):
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
            self._stopping.append(placed.ref)

    def close(self) -> None:
        """Stop everything at the next safe moment, and wait for it."""
        import ray

        if self._nodes.is_lost:  # Ray would wait for it, and then end this process
            return
        for folder in [*(item.folder for item in self._waiting), *self._placed]:
            self.cancel(folder)
        refs = self._stopping
        with contextlib.suppress(Exception):  # the cluster may be gone, and its tasks with it
            ray.wait(refs, num_returns=len(refs), timeout=SECONDS_TO_STOP) if refs else None

    # --- starting ---

    def _begin(self) -> None:
        for item in list(self._waiting):
            # No more than the nodes can run: Ray would not move waiting tasks to a new node.
            if len(self._placed) >= min(self._n_workers, self._nodes.n_slots(self._n_threads)):
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
            ref = self._nodes.submit(order)
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
            lease = placed.lease()
            if lease is None:  # not started yet
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
        self._lease: fence.Lease | None = None

    def lease(self) -> fence.Lease | None:
        """Return the task's last lease that could be read; None if it has not started yet."""
        found = fence.read_lease(self.item.folder)  # None while it is being written
        if found is not None and found.token == self.token:
            self._lease = found
        return self._lease

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
