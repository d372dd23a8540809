"""This machine, as far as it decides bits and speed. Cores, quotas and instruction sets are asked
for here and nowhere else."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any


def instruction_set() -> str:
    """The best one that both this build and this processor have, such as avx512."""
    from gallop import _kernels

    return _kernels.instruction_sets()[0]


def has_bf16() -> bool:
    """Whether precisions other than float32 are served here."""
    from gallop import _kernels

    return _kernels.has_bf16()


def available_processors() -> int:
    """Processors that this process may use: by its affinity and by its control group's quota."""
    n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(n, _control_group_quota()))


def _control_group_quota() -> int:
    """Whole processors' worth of time that Linux's control group allows (version 2, then 1)."""
    root = Path("/sys/fs/cgroup")
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 2**31
    if quota == "max" or int(quota) <= 0:
        return 2**31
    return max(1, int(quota) // int(period))


def machine() -> dict[str, Any]:
    """This machine, as far as it decides bits and speed."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": cores,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
