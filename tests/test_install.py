"""The installer behind `make`: what it reads, its progress line, and its error when pip fails."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def install():
    spec = importlib.util.spec_from_file_location("install", ROOT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def environment(folder):
    """A folder that looks like a virtual environment of this Python."""
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def test_packages_and_editable_folders_are_separated(install, tmp_path):
    (tmp_path / "r.txt").write_text("# all\na==1  # why\nb[c]==2\n\n-e .\n")
    assert install.read_requirements(tmp_path / "r.txt") == (["a==1", "b[c]==2"], ["."])


def test_the_projects_requirements_pin_every_package_and_install_gallop(install):
    packages, folders = install.read_requirements(ROOT / "requirements.txt")
    assert all("==" in package for package in packages) and folders == ["."]


def test_the_progress_line_counts_downloaded_and_then_unpacked_packages(install, tmp_path):
    since = time.time() - 10
    lines = [
        "Looking in links: /opt/wheels",
        "Collecting numpy==2.4.6",
        "  Downloading numpy-2.4.6-cp311-cp311-linux_x86_64.whl (16 MB)",
        "Processing /opt/files/torch-2.13.0-cp311-cp311-linux_x86_64.whl",
    ]
    found = install.progress_of_packages(lines, tmp_path, 3, since)
    assert found == "downloading 2 of 3: torch"
    more = [*lines, "Collecting stable-baselines3==2.9.2 (from -r requirements.txt (line 25))"]
    found = install.progress_of_packages(more, tmp_path, 3, since)
    assert found == "downloading 3 of 3: stable-baselines3"
    lines.append("Installing collected packages: numpy, torch, rich")
    (tmp_path / "numpy-2.4.6.dist-info").mkdir()
    found = install.progress_of_packages(lines, tmp_path, 3, since)
    assert found == "unpacking 1 of 3: torch"
    later = install.progress_of_packages(lines, tmp_path, 3, time.time() + 10)
    assert later == "unpacking 0 of 3: numpy", "earlier installations do not count"


def test_a_failure_ends_with_the_output_of_pip(install, tmp_path):
    folder = environment(tmp_path)
    (tmp_path / "r.txt").write_text("./no_such.whl\n")
    with pytest.raises(SystemExit, match=r"no_such\.whl.*\n.*pip failed \(packages\)"):
        install.main(str(folder), str(tmp_path / "r.txt"))


def test_an_installed_package_is_reported_at_once(install, tmp_path, capsys):
    folder = environment(tmp_path)
    (tmp_path / "r.txt").write_text("numpy\n")
    install.main(str(folder), str(tmp_path / "r.txt"))
    assert capsys.readouterr().out.splitlines()[-1].startswith("installed in ")
