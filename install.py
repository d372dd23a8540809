"""Install what a requirements file pins, with one line that says how far it is.

    python3 install.py .venv requirements.txt      (started by the Makefile)

pip is either silent for minutes or a flood. The packages and Gallop itself, whose kernels have to
be compiled, are installed by two pips side by side. Both logs stay in the environment's folder.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

# Python compiles what it imports, once. Compiling everything takes a minute and 350 MB.
PIP = ("-m", "pip", "install", "--no-compile", "--no-input", "--progress-bar", "off",
       "--disable-pip-version-check")  # fmt: skip
SECONDS_BETWEEN_LINES = 15  # where there is no terminal


class Job(NamedTuple):
    """One pip at work, and what it has said."""

    what: str
    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text(errors="replace").splitlines()


def start(python: Path, what: str, log: Path, arguments: list[str]) -> Job:
    with log.open("wb") as file:
        command = [str(python), *PIP, *arguments]
        return Job(what, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT), log)


def read_requirements(path: Path) -> tuple[list[str], list[str]]:
    """The packages of a requirements file, and the folders that it installs with -e."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    packages = [line for line in lines if line and not line.startswith("-")]
    folders = [line.removeprefix("-e").strip() for line in lines if line.startswith("-e")]
    others = [line for line in lines if line.startswith("-") and not line.startswith("-e")]
    if others:
        sys.exit(f"{path}: {others[0]}: only packages and -e FOLDER are understood here")
    return packages, folders


def progress_of_packages(lines: list[str], site: Path, n_pinned: int, since: float) -> str:
    """What pip does with the packages now, and how many of how many are through."""
    installing = [line for line in lines if line.startswith("Installing collected packages: ")]
    if not installing:
        said = r"Collecting |Processing (?:.*/)?|Requirement already satisfied: "
        pattern = rf"(?:{said})([\w.-]+?)(?=-\d|[^\w.-]|$)"
        names = [found[1] for line in lines if (found := re.match(pattern, line))]
        at = f": {names[-1]}" if names else ""
        return f"downloading {min(len(names), n_pinned)} of {n_pinned}{at}"
    names = installing[-1].partition(": ")[2].split(", ")
    done = [folder for folder in site.glob("*.dist-info") if folder.stat().st_mtime >= since]
    n_done = min(len(done), len(names))
    return f"unpacking {n_done} of {len(names)}" + (
        f": {names[n_done]}" if n_done < len(names) else ""
    )


def show(text: str, shown: str, is_last: bool) -> None:
    """Replace the line in a terminal; elsewhere write a line."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be replaced
        print(f"\r\x1b[K{text[:width]}", end="\n" if is_last else "", flush=True)
    elif text != shown:
        print(text, flush=True)


def wait(jobs: list[Job], site: Path, n_pinned: int) -> None:
    """Report until all jobs have ended, or one has failed."""
    begin, told, shown = time.time(), 0.0, ""
    while any(job.process.poll() is None for job in jobs):
        if any(job.process.poll() for job in jobs):
            break
        parts = [
            progress_of_packages(job.lines(), site, n_pinned, begin)
            if job.what == "packages"
            else "building Gallop's kernels"
            for job in jobs
            if job.process.poll() is None
        ]
        now = time.time()
        if parts and (sys.stdout.isatty() or now - told >= SECONDS_BETWEEN_LINES):
            text = f"installing  {now - begin:3.0f} s  {'; '.join(parts)}"
            show(text, shown, is_last=False)
            told, shown = now, text
        time.sleep(0.2)
    for job in jobs:
        if job.process.poll():
            stop(jobs)
            show("", shown, is_last=True)
            tail = "\n".join(job.lines()[-30:])
            sys.exit(f"{tail}\npip failed ({job.what}); all it said is in {job.log}")
    show(f"installed in {time.time() - begin:.0f} s", shown, is_last=True)


def stop(jobs: list[Job]) -> None:
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()
            job.process.wait()


def main(environment: str, requirements: str) -> None:
    venv = Path(environment)
    python = venv / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.check_output([python, "-c", query], text=True).strip())
    packages, folders = read_requirements(Path(requirements))
    jobs = [start(python, "packages", venv / "pip-packages.log", packages)]
    if folders:
        editable = [part for folder in folders for part in ("-e", folder)]
        jobs.append(start(python, "gallop", venv / "pip-gallop.log", ["--no-deps", *editable]))
    try:
        wait(jobs, site, len(packages))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        stop(jobs)


if __name__ == "__main__":
    main(*sys.argv[1:])
