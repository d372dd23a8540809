"""This machine, as far as it decides bits and speed. Processors, memory and instruction sets are
asked for here and nowhere else."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

CONTROL_GROUP = Path("/sys/fs/cgroup")


def instruction_set() -> str:
    """The best one that both this build and this processor have, such as avx512."""
    from gallop import _kernels

    return _kernels.instruction_sets()[0]


def has_bf16() -> bool:
    """Whether precisions other than float32 are served here."""
    from gallop import _kernels

    return _kernels.has_bf16()


def available_processors(control_group: Path = CONTROL_GROUP) -> int:
    """Processors that this process may use: by its affinity and by its control group's quota."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _processor_quota(control_group)
    return n if quota is None else max(1, min(n, quota))


def available_memory(control_group: Path = CONTROL_GROUP) -> int | None:
    """Bytes that a new process may use, as far as the system says; at most its control group's."""
    memory = None
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                memory = int(line.split()[1]) * 1024
    except OSError:
        with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
            memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # version 2, then 1
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            limit = int((control_group / name).read_text())
            memory = limit if memory is None else min(memory, limit)
    return memory


def _processor_quota(control_group: Path) -> int | None:
    """Whole processors' worth of time that a control group allows (version 2, then 1)."""
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
    """This machine, as far as it decides bits and speed."""
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
    """Processors of this machine, also those that this process may not use."""
    return os.cpu_count()
