"""The hardware and system properties that affect results and speed.

Processors, memory and instruction sets are queried only here.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")


def instruction_set() -> str:
    """Return the best instruction set that this build and this processor share, such as avx512."""
    from gallop import _kernels

    return _kernels.instruction_sets()[0]


def available_processors(control_group: Path = CONTROL_GROUP) -> int:
    """Return how many processors this process may use, given its affinity and cgroup quota."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _processor_quota(control_group)
    return n if quota is None else max(1, min(n, quota))


def available_memory(control_group: Path = CONTROL_GROUP) -> int | None:
    """Return how many bytes a new process may use, at most the cgroup's limit; None if unknown."""
    memory = None
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                memory = int(line.split()[1]) * 1024
    except OSError:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup version 2, then 1
        with contextlib.suppress(OSError, ValueError):  # "max" means no limit
            limit = int((control_group / name).read_text())
            memory = limit if memory is None else min(memory, limit)
    return memory


def _processor_quota(control_group: Path) -> int | None:
    """Return how many whole processors a cgroup (version 2, then 1) allows; None if unlimited."""
    try:
        quota, period = (control_group / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (control_group / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (control_group / "cpu" / "cpu.cfs_period_us").read_text().strip()
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
