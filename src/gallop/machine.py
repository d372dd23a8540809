"""The hardware and system properties that affect results and speed.

Processors, memory and instruction sets are queried only here.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def instruction_set() -> str:
    """Return the best instruction set that this build and this processor share, such as avx512."""
    return instruction_sets()[0]


def instruction_sets() -> list[str]:
    """Return all instruction sets that this build and this processor share, best first."""
    from gallop import _kernels

    return _kernels.instruction_sets()


def available_processors(control_group: Path = CONTROL_GROUP, membership: Path = MEMBERSHIP) -> int:
    """Return how many processors this process may use, given its affinity and cgroup quotas."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = map(_processor_quota, _groups("cpu", control_group, membership))
    return max(1, min([n, *(quota for quota in quotas if quota is not None)]))


def available_memory(
    control_group: Path = CONTROL_GROUP, membership: Path = MEMBERSHIP
) -> int | None:
    """Return how many bytes a new process may use, at most the limit of each cgroup that it is in;
    None if unknown."""
    memory = None
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                memory = int(line.split()[1]) * 1024
    except OSError:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group in _groups("memory", control_group, membership):
        for name in ("memory.max", "memory.limit_in_bytes"):  # cgroup version 2, then 1
            with contextlib.suppress(OSError, ValueError):  # "max" means no limit
                limit = int((group / name).read_text())
                memory = limit if memory is None else min(memory, limit)
    return memory


def _groups(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of the cgroups that this process is in, from its own up to the root.

    A container sees its own limits at the root. A job of Slurm or of systemd has them further down,
    and the group that has the limit may be any on the way: that of the task, step, job or user.

    Args:
        controller: what version 1 has a tree of groups for; version 2 has one tree for all.
        root: of all groups.
        membership: lists the groups of this process (cgroups(7)).
    """
    names = {"": "", controller: ""}
    with contextlib.suppress(OSError):
        for line in membership.read_text().splitlines():
            _, controllers, name = line.split(":", 2)  # no controllers: version 2
            names |= dict.fromkeys(controllers.split(","), name.lstrip("/"))
    for tree, name in ((root, names[""]), (root / controller, names[controller])):
        group = tree / name
        yield from (each for each in (group, *group.parents) if each.is_relative_to(tree))


def _processor_quota(group: Path) -> int | None:
    """Return how many whole processors a cgroup (version 2, then 1) allows; None if unlimited."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) // int(period)


def machine(control_group: Path = CONTROL_GROUP) -> dict[str, str | int]:
    """Return processor, cores, platform and Python version, for provenance.json."""
    return {
        "cpu": _cpu(),
        "cores": available_processors(control_group),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def all_processors() -> int | None:
    """Return the number of processors of this machine, including those this process may not use."""
    return os.cpu_count()
