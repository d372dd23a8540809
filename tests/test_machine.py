"""The resources that a process may use, according to its affinity and its cgroup."""

from __future__ import annotations

import os

import pytest

from gallop import machine

ALLOWED = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture(params=["version 1", "version 2"])
def limited_to(request, tmp_path):
    """Makes the folder of a cgroup with a quota, in hundredths of a processor."""

    def write(hundredths):
        quota = "max" if hundredths is None else str(hundredths * 1000)
        if request.param == "version 2":
            (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
        else:
            (tmp_path / "cpu").mkdir()
            v1 = "-1" if hundredths is None else quota
            (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{v1}\n")
            (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("hundredths", "expected"),
    [(100, 1), (190, 1), (50, 1), (100_000, ALLOWED), (None, ALLOWED)],
)
def test_the_recorded_cores_respect_the_quota(limited_to, hundredths, expected):
    folder = limited_to(hundredths)
    assert machine.machine(folder)["cores"] == expected
    assert machine.available_processors(folder) == expected


def test_without_a_cgroup_the_affinity_decides(tmp_path):
    assert machine.available_processors(tmp_path) == ALLOWED


def test_memory_is_at_most_the_cgroups_limit(tmp_path):
    free = machine.available_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    # Other processes on this machine use memory in between.
    assert machine.available_memory(tmp_path) == pytest.approx(free, rel=0.5)
    (tmp_path / "memory.max").write_text("1000\n")
    assert machine.available_memory(tmp_path) == 1000


JOB = "system.slice/slurmstepd.scope/job_7"
"""The cgroup of a Slurm job; those of its steps and tasks are in it."""


@pytest.mark.parametrize(
    ("member_of", "memory", "quota"),
    [
        ("0::/{}", "{}/memory.max", {"{}/cpu.max": "100000 100000"}),
        (
            "4:memory:/{}\n1:cpu,cpuacct:/{}",
            "memory/{}/memory.limit_in_bytes",
            {"cpu/{}/cpu.cfs_quota_us": "100000", "cpu/{}/cpu.cfs_period_us": "100000"},
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_the_limits_of_a_job_apply_to_its_tasks(member_of, memory, quota, tmp_path):
    def write(name, group, text):
        file = tmp_path / name.format(group)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
        return file

    membership = write("membership", "", member_of.replace("{}", f"{JOB}/step_0/user/task_0"))
    assert machine.available_memory(tmp_path, membership) > 9_000
    for group, limit in ((JOB, 5_000), (f"{JOB}/step_0", 9_000), (f"{JOB}/step_1", 10)):
        write(memory, group, limit)  # the task is not in step 1
    assert machine.available_memory(tmp_path, membership) == 5_000

    assert machine.available_processors(tmp_path, membership) == ALLOWED
    for name, text in quota.items():
        write(name, JOB, text)
    assert machine.available_processors(tmp_path, membership) == 1
    assert machine.available_processors(tmp_path, tmp_path / "nowhere") == ALLOWED
