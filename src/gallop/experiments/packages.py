"""Packages of tasks that Gymnasium knows only once they are imported, by the ids that they have."""

from __future__ import annotations

import importlib.util
import re
import traceback
from pathlib import Path
from typing import NamedTuple


class Package(NamedTuple):
    """A package of tasks."""

    module: str
    """What an id names before the colon."""
    install: str
    """What pip installs."""
    ids: str
    """Regular expression of the ids that it registers."""


# docs/environments.md has the versions that were tried, and what each needs.
PACKAGES = (
    Package("gymnasium_robotics", "gymnasium-robotics",
            r"(Fetch|Hand|Adroit|FrankaKitchen|AntMaze|PointMaze|Ant_|Maze)\w*"),
    Package("shimmy", '"shimmy[dm-control]"', r"dm_control/.*"),
    Package("metaworld", "metaworld", r"Meta-World/.*"),
    Package("myosuite", "myosuite", r"(myo|motor|Mj)\w*"),
    Package("panda_gym", "panda-gym", r"Panda\w*"),
    Package("highway_env", "highway-env",
            r"(highway|merge|roundabout|parking|intersection|racetrack|u-turn|two-way|exit)\b.*"),
    Package("minigrid", "minigrid", r"(MiniGrid|BabyAI)-.*"),
    Package("mo_gymnasium", "mo-gymnasium",
            r"(mo|deep-sea-treasure|resource-gathering|minecart|four-room|fruit-tree)\b.*"),
    Package("pybullet_envs_gymnasium", "pybullet-envs-gymnasium", r"\w+BulletEnv"),
    Package("ale_py", "ale-py", r"ALE/.*|\w+(NoFrameskip|Deterministic)"),
    Package("vizdoom.gymnasium_wrapper", "vizdoom", r"Vizdoom\w+"),
    Package("miniworld", "miniworld", r"MiniWorld-.*"),
    Package("flappy_bird_gymnasium", "flappy-bird-gymnasium", r"FlappyBird\b.*"),
    Package("gym_electric_motor", "gym-electric-motor", r"(Cont|Finite)-\w+-\w+"),
    Package("PyFlyt.gym_envs", "pyflyt", r"PyFlyt/.*"),
    Package("gym_aloha", "gym-aloha", r"gym_aloha/.*"),
    Package("gym_hil", "gym-hil", r"gym_hil/.*"),
    Package("gym_pusht", "gym-pusht", r"gym_pusht/.*"),
    Package("gym_xarm", "gym-xarm", r"gym_xarm/.*"),
)  # fmt: skip


def package_for(env: str) -> Package | None:
    """Return the package that has a task of this id; None if none is known."""
    name = re.sub(r"-v\d+$", "", env)
    return next((each for each in PACKAGES if re.fullmatch(each.ids, name)), None)


def how_to_import(env: str) -> str:
    """Say how a task of a known package is named, and how to install that; empty for others.

    >>> how_to_import("PandaReach-v3").startswith("panda_gym has it: panda_gym:PandaReach-v3")
    True
    """
    found = package_for(env)
    if found is None:
        return ""
    hint = f"{found.module} has it: {found.module}:{env}"
    if importlib.util.find_spec(found.module.partition(".")[0]) is None:
        hint += f" (pip install {found.install})"
    return hint


def how_to_install(module: str) -> str:
    """Say how to install the package of a module; empty if it is not known."""
    top = module.partition(".")[0]
    known = (each for each in PACKAGES if each.module.partition(".")[0] == top)
    return next((f"pip install {each.install}" for each in known), "")


def about_mujoco() -> str:
    """Say what to do if MuJoCo is installed without its bindings; empty if they are there.

    pip's upgrade from MuJoCo 3 to 4.0.0 leaves such an installation, and a package that requires
    MuJoCo 4 causes that upgrade.
    """
    if importlib.util.find_spec("mujoco") is None:
        return ""
    try:
        import mujoco

        if hasattr(mujoco, "MjModel"):
            return ""
    except ImportError:
        pass
    return (
        "; MuJoCo is installed without its bindings, as after an upgrade from 3 to 4.0.0; for a "
        'version that Gallop supports: pip install --force-reinstall "mujoco<3.16"'
    )


def about_opengl(error: BaseException) -> str:
    """Say which setting lets a task draw without a display, if that is what it failed for."""
    if not re.search("OpenGL|GLFW|gladLoad|X11: The DISPLAY", str(error)):
        return ""
    return "; without a display, MUJOCO_GL=egl in the environment may help"


def about_versions(error: BaseException) -> str:
    """Say which MuJoCo a package needs, if it fails with a newer one; empty otherwise.

    With MuJoCo 3.12 or later, an assertion of gymnasium-robotics 1.4.2 fails, which has no text.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not isinstance(error, AssertionError) or not frames:
        return ""
    if "gymnasium_robotics" not in Path(frames[-1].filename).parts:
        return ""
    return '; gymnasium-robotics 1.4.2 works with MuJoCo 3.11: pip install "mujoco<3.12"'
