"""Try other people's packages of tasks: install each one, train on its tasks, and evaluate.

Run by hand, with the interpreter of the checkout's environment; it downloads a lot:

    .venv/bin/python tests/others/packages.py --out packages.csv
    .venv/bin/python tests/others/packages.py --out packages.csv panda-gym minigrid

Every package gets a virtual environment of its own. What it does not need in another version comes
from the environment of this interpreter. docs/environments.md has the results.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SECONDS = 900  # for one command
SMALL = {
    "sac": "-params learning_starts:100 policy_kwargs.net_arch:[32,32]",
    "ppo": "-params n_steps:200 batch_size:50 policy_kwargs.net_arch:[32,32]",
}
SHORT = "--env-kwargs '{max_episode_steps: 100}'"  # for tasks without a time limit, or a long one


class Package(NamedTuple):
    """A package, and what is tried with it."""

    requirement: str
    """What pip installs."""
    tasks: tuple[str, ...]
    """Algorithm and id, and further options of `gallop run`."""
    more: str = ""
    """Further requirements, such as a version of MuJoCo that it works with."""
    no_deps: bool = False
    """Whether its own requirements are ignored, and only `more` is installed."""


PACKAGES = (
    Package("gymnasium-robotics==1.4.2",
            (f"sac gymnasium_robotics:AdroitHandPen-v1 {SHORT}",
             "sac gymnasium_robotics:PointMaze_UMaze-v3",
             "sac gymnasium_robotics:FetchReach-v4")),
)  # fmt: skip

COLUMNS = (
    "package", "version", "more", "task", "algorithm", "gymnasium", "mujoco", "numpy", "outcome",
    "words",
)  # fmt: skip


def main() -> None:
    """Try the packages that the command line names, and write one row per task."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="packages (default: all)")
    parser.add_argument("--out", required=True, metavar="CSV", help="the file to write")
    options = parser.parse_args()
    chosen = [each for each in PACKAGES if not options.names or name_of(each) in options.names]
    if unknown := set(options.names) - set(map(name_of, chosen)):
        parser.error(f"{', '.join(unknown)}: not in {', '.join(map(name_of, PACKAGES))}")
    with Path(options.out).open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, restval="")
        table.writeheader()
        for package in chosen:
            for row in rows(package):
                table.writerow(row)
                file.flush()
                print(f"{row['package']} {row['task']}: {row['outcome']}. {row['words']}".rstrip())


def name_of(package: Package) -> str:
    """A package's name, without extras and version."""
    return re.split(r"[\[=<>]", package.requirement)[0]


def rows(package: Package) -> Iterator[dict[str, str]]:
    """Install a package in an environment of its own, and try its tasks."""
    _, _, version = package.requirement.partition("==")
    row = {"package": name_of(package), "version": version, "more": package.more}
    if package.no_deps:
        row["more"] = f"--no-deps {package.more}".strip()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = make_environment(folder / "environment")
        if problem := install(python, package):
            yield row | {"outcome": "cannot be installed", "words": problem}
            return
        row |= {name: version_of(python, name) for name in ("gymnasium", "mujoco", "numpy")}
        for number, task in enumerate(package.tasks):
            algorithm, env, *options = shlex.split(task)
            outcome, words = tried(python, folder, f"run{number}", algorithm, env, options)
            yield row | {
                "task": env, "algorithm": algorithm, "outcome": outcome, "words": words
            }  # fmt: skip


def make_environment(folder: Path) -> Path:
    """Make an environment that falls back on this interpreter's, and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    here = sysconfig.get_path("purelib")
    there = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (there / "checkout.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return python


def install(python: Path, package: Package) -> str:
    """Install a package, and return pip's error; empty if there is none."""
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [[package.requirement, *shlex.split(package.more)]]
    if package.no_deps:
        steps = [["--no-deps", package.requirement], shlex.split(package.more)]
    for step in filter(None, steps):
        done = ended([*pip, *step])
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "rror" in line]
            return errors[0].strip() if errors else last_line(done.stderr)
    return ""


def version_of(python: Path, name: str) -> str:
    """The version of a package in an environment; empty if it is not installed."""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return ended([python, "-c", code, name]).stdout.strip()


def tried(
    python: Path, folder: Path, name: str, algorithm: str, env: str, options: list[str]
) -> tuple[str, str]:
    """Plan, train and evaluate, and return the outcome and Gallop's own words."""
    results = folder / "results"
    gallop = [python, "-m", "gallop"]
    planned = [*gallop, "run", "--algo", algorithm, "--env", env, "-n", "400"]
    small = ["--num-threads", "1", "--films", "false", "--milestones", "[100]", "--no-preset",
             "--eval-episodes", "1", *shlex.split(SMALL[algorithm]), "--name", name,
             "--log-folder", results]  # fmt: skip
    (run,) = [results / f"{algorithm.upper()}_{re.sub('[:/]', '-', env)}" / name]
    steps = {
        "refused": [*planned, *options, "--dry-run"],
        "fails while it trains": [*planned, *options, *small],
        "cannot be evaluated": [*gallop, "evaluate", run, "--episodes", "2"],
    }
    note = ""
    for failure, command in steps.items():
        done = ended(command, folder)
        if done.returncode:
            traceback = "Traceback (most recent call last)" in done.stderr
            return failure + ", with a traceback" * traceback, last_line(done.stderr)
        note = note or note_of(done.stdout)
    return ("trains, with a note" if note else "trains"), note


def note_of(plan: str) -> str:
    """What the plan says about the task; empty if nothing."""
    return next((line[len("task") :].strip() for line in plan.splitlines()
                 if line.startswith("task ")), "")  # fmt: skip


def last_line(text: str) -> str:
    """The last line that is not empty."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def ended(
    command: list[str | Path], folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends; 124 is the exit code of one that does not."""
    wide = {**os.environ, "COLUMNS": "2000"}  # no line is broken
    try:
        return subprocess.run(
            command, cwd=folder, env=wide, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
