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
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SECONDS = 900  # for one command
SMALL = {
    "sac": "-params learning_starts:100 buffer_size:1000 policy_kwargs.net_arch:[32,32]",
    "ppo": "-params n_steps:200 batch_size:50 policy_kwargs.net_arch:[32,32]",
}
SHORT = "--env-kwargs '{max_episode_steps: 50}'"  # for tasks without a time limit, or a long one


class Package(NamedTuple):
    """A package, and what is tried with it."""

    requirement: str
    """What pip installs."""
    tasks: tuple[str, ...]
    """Environment variables, algorithm, id, and further options of `gallop run`; none for a
    package that could not be installed."""
    more: str = ""
    """Further requirements, such as a version of MuJoCo that it works with."""
    no_deps: bool = False
    """Whether its own requirements are ignored, and only `more` is installed."""


PACKAGES = (
    Package("gymnasium-robotics==1.4.2",
            (f"sac gymnasium_robotics:AdroitHandPen-v1 {SHORT}",
             f"sac gymnasium_robotics:AntMaze_UMaze-v5 {SHORT}",
             "sac gymnasium_robotics:FetchReach-v4")),
    Package("gymnasium-robotics==1.4.2", ("sac gymnasium_robotics:FetchReach-v4",),
            "mujoco==3.11.0"),
    Package("shimmy[dm-control]==2.0.1", (f"sac shimmy:dm_control/cheetah-run-v0 {SHORT}",),
            "dm-control==1.0.48"),
    Package("metaworld==3.1.1",
            ("sac metaworld:Meta-World/MT1 "
             "--env-kwargs '{env_name: reach-v3, seed: 0, max_episode_steps: 50}'",)),
    Package("myosuite==3.0.0", ("sac myosuite:myoElbowPose1D6MRandom-v0",
                                f"sac myosuite:myoLegWalk-v0 {SHORT}")),
    Package("panda-gym==3.0.7", ("sac panda_gym:PandaReachDense-v3",)),
    Package("highway-env==1.12.1", (f"ppo highway_env:highway-fast-v0 {SHORT}",
                                    f"sac highway_env:parking-v0 {SHORT}")),
    Package("minigrid==3.2.0",
            (f"ppo minigrid:MiniGrid-Empty-5x5-v0 {SHORT}",
             "ppo minigrid:MiniGrid-Empty-5x5-v0 "
             f"--wrappers [minigrid.wrappers:FlatObsWrapper] {SHORT}")),
    Package("mo-gymnasium==1.3.2",
            (f"sac mo_gymnasium:mo-halfcheetah-v5 {SHORT}",
             "sac mo_gymnasium:mo-halfcheetah-v5 "
             f"--wrappers [mo_gymnasium.wrappers:LinearReward] {SHORT}")),
    Package("pybullet-envs-gymnasium==0.6.0",
            (f"sac pybullet_envs_gymnasium:HopperBulletEnv-v0 {SHORT}",)),
    Package("ale-py==0.12.1", (f"ppo ale_py:ALE/Pong-v5 {SHORT}",)),
    Package("gym-aloha==0.1.5",
            (f"sac gym_aloha:gym_aloha/AlohaTransferCube-v0 {SHORT}",
             f"MUJOCO_GL=egl sac gym_aloha:gym_aloha/AlohaTransferCube-v0 {SHORT}")),
    Package("gym-hil==0.1.14",
            (f"sac gym_hil:gym_hil/PandaPickCubeBase-v0 {SHORT}",
             f"MUJOCO_GL=egl sac gym_hil:gym_hil/PandaPickCubeBase-v0 {SHORT}")),
    Package("gym-pusht==0.1.8", (f"sac gym_pusht:gym_pusht/PushT-v0 {SHORT}",)),
    Package("gym-xarm==0.1.1", (f"sac gym_xarm:gym_xarm/XarmLift-v0 {SHORT}",)),
    Package("gym-xarm==0.1.1", (f"sac gym_xarm:gym_xarm/XarmLift-v0 {SHORT}",),
            "gymnasium-robotics==1.4.2 mujoco==3.11.0", no_deps=True),
    Package("gym-quadruped==1.1.8", ("sac gym_quadruped:QuadrupedEnv-v0",)),
    Package("flappy-bird-gymnasium==0.4.0",
            (f"ppo flappy_bird_gymnasium:FlappyBird-v0 {SHORT}",)),
    Package("vizdoom==1.3.2", (f"ppo vizdoom.gymnasium_wrapper:VizdoomBasic-v1 {SHORT}",)),
    Package("bbrl-gymnasium==1.0.1", (f"sac bbrl_gymnasium:CartPoleContinuous-v1 {SHORT}",
                                      f"sac bbrl_gymnasium:RocketLander-v0 {SHORT}")),
    Package("gym-electric-motor==3.0.3",
            (f"sac gym_electric_motor:Cont-CC-PMSM-v0 {SHORT}",
             "sac gym_electric_motor:Cont-CC-PMSM-v0 "
             f"--wrappers [gymnasium.wrappers:FlattenObservation] {SHORT}")),
    Package("rware==2.0.0", (f"ppo rware:rware-tiny-2ag-v2 {SHORT}",)),
    Package("bluesky-gym==0.2.0", ("sac bluesky_gym:DescentEnv-v0",)),
    Package("miniworld==2.1.0",
            (f"ppo miniworld:MiniWorld-OneRoom-v0 {SHORT}",
             f"PYGLET_HEADLESS=1 ppo miniworld:MiniWorld-OneRoom-v0 {SHORT}")),
    Package("gym-softrobot==0.3.0", (f"sac gym_softrobot:OctoArmSingle-v0 {SHORT}",)),
    Package("evogym-py313==0.1.0", (f"ppo evogym.envs:Walker-v0 {SHORT}",)),
    Package("envpool==1.2.5", ("sac envpool:HalfCheetah-v5",)),
    Package("envpool==1.2.7", ("sac envpool:HalfCheetah-v5",)),
    Package("PyFlyt==0.29.0", (f"sac PyFlyt.gym_envs:PyFlyt/QuadX-Hover-v4 {SHORT}",)),
    Package("PyFlyt==0.29.0", (f"sac PyFlyt.gym_envs:PyFlyt/QuadX-Hover-v4 {SHORT}",),
            "pybullet numba", no_deps=True),
    Package("gym-jiminy==1.8.13", ()),
    Package("gymnasium-quadruped==0.0.1", ()),
    Package("evogym==2.0.0", ()),
    Package("safety-gymnasium==1.0.0", ()),
    Package("flygym-gymnasium==1.3.2", ()),
    Package("crazyflow==0.4.0", ("sac crazyflow.envs:DroneReachPos-v0",)),
)  # fmt: skip

COLUMNS = (
    "package", "version", "more", "task", "gymnasium", "mujoco", "numpy", "outcome", "words",
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
                print(", ".join(filter(None, row.values())), flush=True)


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
        if not package.tasks:
            yield row | {"outcome": "can be installed", "words": "no task of it is named above"}
        for number, task in enumerate(package.tasks):
            outcome, words = tried(python, folder, f"run{number}", task)
            yield row | {"task": task, "outcome": outcome, "words": words}


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
    pip: list[str | Path] = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    more = [*shlex.split(package.more), "gallop-rl"]  # which needs some packages itself
    steps = [[package.requirement, *more]]
    if package.no_deps:
        steps = [["--no-deps", package.requirement], more]
    for step in steps:
        done = ended([*pip, *step])
        if done.returncode:
            told = [line.strip() for line in done.stdout.splitlines()]
            conflict = "; ".join(line for line in told if re.match("\\S+ \\S+ depends on ", line))
            lines = [line.strip() for line in done.stderr.splitlines()]
            errors = [line for line in lines if re.match("(ERROR|.*Error):", line)]
            return conflict or (errors or lines or [""])[0][:300]
    return ""


def version_of(python: Path, name: str) -> str:
    """The version of a package in an environment; empty if it is not installed."""
    code = "import importlib.metadata, sys; print(importlib.metadata.version(sys.argv[1]))"
    return ended([python, "-c", code, name]).stdout.strip()


def tried(python: Path, folder: Path, name: str, task: str) -> tuple[str, str]:
    """Plan, train and evaluate, and return the outcome and Gallop's own words."""
    words = shlex.split(task)
    variables = {}
    while "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        variables[variable] = value
    algorithm, env, *options = words
    results = folder / "results"
    gallop: list[str | Path] = [python, "-m", "gallop"]
    planned = [*gallop, "run", "--algo", algorithm, "--env", env, "-n", "400", *options,
               "--milestones", "[100]", *shlex.split(SMALL[algorithm])]  # fmt: skip
    small = ["--num-threads", "1", "--films", "false", "--no-preset", "--eval-freq", "400",
             "--eval-episodes", "1", "--name", name, "--log-folder", results]  # fmt: skip
    run = results / f"{algorithm.upper()}_{re.sub('[:/]', '-', env)}" / name
    steps = {
        "refused": [*planned, "--dry-run"],
        "fails while it trains": [*planned, *small],
        "cannot be evaluated": [*gallop, "evaluate", run, "--episodes", "2"],
    }
    note = ""
    for failure, command in steps.items():
        done = ended(command, folder, variables)
        if done.returncode:
            died = f": signal {-done.returncode}" if done.returncode < 0 else ""
            traceback = ", with a traceback" if "Traceback (most recent" in done.stderr else ""
            return failure + died + traceback, last_line(done.stderr)
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
    command: list[str | Path], folder: Path | None = None, variables: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run a command until it ends; 124 is the exit code of one that does not."""
    wide = {**os.environ, "COLUMNS": "2000", **variables}  # no line is broken
    try:
        return subprocess.run(
            command, cwd=folder, env=wide, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no answer in {SECONDS} s")


if __name__ == "__main__":
    main()
