"""Install the packages of a requirements file, and show progress on one line.

    python3 install.py .venv requirements.txt      (started by the Makefile)

pip prints either nothing for minutes or far too much. Two pip processes run in parallel: one
installs the packages, the other compiles and installs Gallop. Both logs stay in the environment's
folder.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

# Python compiles a module on first import. Compiling all of them takes a minute and 350 MB.
PIP = ("-m", "pip", "install", "--no-compile", "--no-input", "--progress-bar", "off",
       "--disable-pip-version-check")  # fmt: skip
SECONDS_BETWEEN_LINES = 15  # without a terminal


class Job(NamedTuple):
    """One pip process and its log."""

    what: str
    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[str]:
        """What pip has printed so far."""
        return self.log.read_text(errors="replace").splitlines()


def start(python: Path, what: str, log: Path, arguments: list[str]) -> Job:
    """Start pip in an environment, with its output in a log file."""
    with log.open("wb") as file:
        command = [str(python), *PIP, *arguments]
        return Job(what, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT), log)


def read_requirements(path: Path) -> tuple[list[str], list[str]]:
    """Packages of a requirements file, and the folders that it installs with -e."""
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    packages = [line for line in lines if line and not line.startswith("-")]
    folders = [line.removeprefix("-e").strip() for line in lines if line.startswith("-e")]
    others = [line for line in lines if line.startswith("-") and not line.startswith("-e")]
    if others:
        sys.exit(f"{path}: {others[0]}: only packages and -e FOLDER are supported")
    return packages, folders


def progress_of_packages(lines: list[str], site: Path, n_pinned: int, since: float) -> str:
    """What pip is doing with the packages, and how many of them are done."""
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
    """Replace the line in a terminal; otherwise print a new line."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns - 1  # a wrapped line cannot be replaced
        print(f"\r\x1b[K{text[:width]}", end="\n" if is_last else "", flush=True)
    elif text != shown:
        print(text, flush=True)


def wait(jobs: list[Job], site: Path, n_pinned: int) -> None:
    """Show progress until all jobs have ended or one has failed."""
    begin, shown_at, shown = time.time(), 0.0, ""
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
        if parts and (sys.stdout.isatty() or now - shown_at >= SECONDS_BETWEEN_LINES):
            text = f"installing  {now - begin:3.0f} s  {'; '.join(parts)}"
            show(text, shown, is_last=False)
            shown_at, shown = now, text
        time.sleep(0.2)
    for job in jobs:
        if job.process.poll():
            stop(jobs)
            show("", shown, is_last=True)
            tail = "\n".join(job.lines()[-30:])
            sys.exit(f"{tail}\npip failed ({job.what}); its full output is in {job.log}")
    show(f"installed in {time.time() - begin:.0f} s", shown, is_last=True)


def stop(jobs: list[Job]) -> None:
    """Terminate the jobs that still run."""
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()
            job.process.wait()


def main(environment: str, requirements: str) -> None:
    """Install the requirements into a virtual environment."""
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
