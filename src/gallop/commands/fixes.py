"""Commands to copy that fix what `gallop doctor` finds missing."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gallop import DISTRIBUTION

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_INSTALL = {
    "Python": {
        "linux": "sudo apt-get install python3 python3-venv",
        "darwin": "brew install python",
        "win32": "winget install Python.Python.3.13",
    },
    "compiler": {
        "linux": "sudo apt-get install g++",
        # It returns at once, while a window asks and installs.
        "darwin": 'xcode-select --install && echo "Enter, once it is installed" && read -r',
        "win32": "winget install Microsoft.VisualStudio.2022.BuildTools --override "
        '"--passive --add Microsoft.VisualStudio.Workload.VCTools --includeRecommended"',
    },
    "ffmpeg": {
        "linux": "sudo apt-get install ffmpeg",
        "darwin": "brew install ffmpeg",
        "win32": "winget install Gyan.FFmpeg",
    },
}


def install(name: str) -> str:
    """Command that installs Python, a compiler or ffmpeg on this system."""
    lines = _INSTALL[name]
    return lines.get(sys.platform, lines["linux"])


def pip_install(requirements: Iterable[Requirement], force: bool = False) -> str:
    """Command that installs packages in their version ranges.

    Args:
        requirements: the packages.
        force: reinstall a broken package even if its version fits.
    """
    # Quoted, because < and > redirect in a shell.
    names = " ".join(f'"{r.name}{version_range(r)}"' for r in requirements)
    return f"{_pip()} {'--force-reinstall ' if force else ''}{names}"


def _pip() -> str:
    """pip of this Python, by its path from the current folder."""
    python = Path(sys.executable)
    if python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    return f'"{python}" -m pip install' if " " in str(python) else f"{python} -m pip install"


def rebuild_kernels() -> str:
    """Command that rebuilds Gallop from its source, and installs a compiler first if needed."""
    has_compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl"))
    origin = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    source = "."
    if origin is not None:
        details = json.loads(origin)
        version_control = details.get("vcs_info", {}).get("vcs")
        source = f"{version_control}+{details['url']}" if version_control else details["url"]
        if details.get("dir_info", {}).get("editable"):
            source = f"-e {source}"
    # Without this variable, an installation succeeds even if its kernels do not compile.
    loud = "" if sys.platform == "win32" else "GALLOP_REQUIRE_KERNELS=1 "
    build = f"{loud}{_pip()} --force-reinstall --no-deps --no-cache-dir {source}"
    return build if has_compiler else f"{install('compiler')} && {build}"


def requirements() -> list[Requirement]:
    """The dependencies of Gallop on this system, without extras."""
    from packaging.requirements import Requirement

    every = [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or ()]
    return [r for r in every if r.marker is None or r.marker.evaluate({"extra": ""})]


def version_range(requirement: Requirement) -> str:
    """The version range of a requirement, lower bound first."""
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))


def allow_writing(folder: Path) -> str:
    """Command that lets this user write to a folder."""
    path = folder.absolute()
    if sys.platform == "win32":
        return f'icacls "{path}" /grant "%USERNAME%:(OI)(CI)M"'
    if path.stat().st_uid == os.geteuid():
        return f'chmod u+rwx "{path}"'
    return f'sudo chown "$USER" "{path}"'
