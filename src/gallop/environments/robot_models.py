"""The files of robots that are given by name: Gallop's own, and MuJoCo Menagerie's.

Importing this module is cheap: MuJoCo is not needed to find a file.
"""

from __future__ import annotations

from pathlib import Path

from gallop.errors import nearest
from gallop.experiments.presets import shipped_files

SOURCES = ("gallop", "menagerie")
DEFAULT_ENTRY = "scene"
"""Of nearly all of Menagerie's robots: the robot on a floor."""


def source_of(xml_file: str) -> str:
    """Where a robot comes from that is given by name; empty for a path.

    >>> source_of("menagerie:unitree_go1"), source_of("C:/robot.xml"), source_of("robot.xml")
    ('menagerie', '', '')
    """
    source, colon, _ = xml_file.partition(":")
    return source if colon and source in SOURCES else ""


def model_path(xml_file: str) -> Path:
    """Return the path of a robot's MJCF file; Menagerie's are downloaded when first used.

    Args:
        xml_file: a path; or gallop:NAME for one of Gallop's own, or menagerie:NAME[/ENTRY] for one
            of MuJoCo Menagerie.

    Raises:
        ValueError: if there is no such model.
        Exception: Menagerie's own, if it cannot be downloaded.
    """
    source, name = source_of(xml_file), xml_file.partition(":")[2]
    if source == "gallop":
        known = {path.name: path for path in sorted((shipped_files() / "robots").glob("*.xml"))}
        if name not in known:
            raise ValueError(f"{xml_file}: no such model; {nearest(name, list(known))}")
        return known[name]
    if source != "menagerie":
        return Path(xml_file)
    try:
        import mujoco_menagerie
    except ImportError:
        raise ValueError(f"{xml_file}: needs pip install mujoco-menagerie") from None
    robot_name, _, entry = name.partition("/")
    robots = mujoco_menagerie.names()
    if robot_name not in robots:
        raise ValueError(f"{xml_file}: no such robot; {nearest(robot_name, robots)}")
    robot = mujoco_menagerie.get(robot_name)
    return Path(robot.xml(entry or robot.default_scene))


def file_name(xml_file: str) -> str:
    """The name of a robot's MJCF file, as `model_path` would find it, without looking for it.

    >>> [file_name(name) for name in ("gallop:a.xml", "menagerie:b", "menagerie:b/c", "/d/e.xml")]
    ['a.xml', 'scene.xml', 'c.xml', 'e.xml']
    """
    source, name = source_of(xml_file), xml_file.partition(":")[2]
    if source == "menagerie":
        return f"{Path(name.partition('/')[2]).name or DEFAULT_ENTRY}.xml"
    return Path(name if source else xml_file).name
