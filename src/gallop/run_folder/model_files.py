"""The files of a robot's model, kept in the run: model/, with the meshes and textures it names.

A run can then be evaluated and resumed after the original files have moved, and on other machines.
"""

from __future__ import annotations

import os
import shutil
import xml.etree.ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from gallop.environments.robot_models import file_name, model_path, source_of
from gallop.experiments.settings import Experiment

FOLDER = "model"
MAX_BYTES = 100_000_000
FILES = ("file", "fileright", "fileleft", "fileup", "filedown", "filefront", "fileback")
FOLDERS = ("meshdir", "texturedir", "assetdir")
MODELS = (".xml", ".mjcf")
KINDS = (*MODELS, ".stl", ".STL", ".obj", ".OBJ", ".msh", ".png", ".PNG", ".hf", ".skn", ".bin")
"""Suffixes of files that are kept: a model could name any other file of this machine."""


def with_kept_model(experiment: Experiment, folder: Path) -> Experiment:
    """Return the experiment with the run's copy of its model, if the original file is not there.

    Args:
        experiment: of a run.
        folder: the run's folder.
    """
    found: dict[str, dict[str, Any]] = {}
    for field in ("env_kwargs", "eval_env_kwargs"):
        kwargs = dict(getattr(experiment, field))
        for name, value in kwargs.items():
            if not _names_a_model(value):
                continue
            copies = sorted((folder / FOLDER / name).rglob(file_name(value)))
            if copies and _original(value) is None:
                found[field] = {**found.get(field, kwargs), name: str(copies[0].absolute())}
    return experiment.model_copy(update=found) if found else experiment


def _names_a_model(value: object) -> TypeGuard[str]:
    """Whether a keyword argument names a model file. Gymnasium's own have no folder."""
    if not isinstance(value, str):
        return False
    return bool(source_of(value)) or (value.endswith(MODELS) and Path(value).is_absolute())


def _original(value: str) -> Path | None:
    """The file of a model; None if it is not there, or cannot be downloaded."""
    try:
        path = model_path(value)
    except Exception:  # Menagerie's errors are of its own kinds
        return None
    return path if path.is_file() else None


def model_file(env_kwargs: Mapping[str, Any]) -> tuple[str, Path] | None:
    """The keyword argument that names a model file, and the file; None if there is none.

    Gymnasium's own models are named without a folder, and are not meant.
    """
    for name, value in env_kwargs.items():
        if _names_a_model(value) and (path := _original(value)) is not None:
            return name, path
    return None


def keep(model: Path, folder: Path) -> Path | None:
    """Copy a model with all files that it names.

    Args:
        model: an MJCF file.
        folder: where to; it does not exist yet.

    Returns:
        The copy of the model; None if there is too much, or a file could not be read or found.
    """
    try:
        files = sorted(_files(model))
        if sum(path.stat().st_size for path in files) > MAX_BYTES:
            return None
        root = Path(os.path.commonpath([path.parent for path in files]))
        for path in files:
            copy = folder / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    except (OSError, ValueError, xml.etree.ElementTree.ParseError):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return folder / model.relative_to(root)


def _files(model: Path) -> set[Path]:
    """Return the model, and all files that it or its parts name."""
    parts, waiting, folders, names = set[Path](), [model], {model.parent}, set[str]()
    while waiting:
        part = waiting.pop()
        parts.add(part)
        tree = xml.etree.ElementTree.parse(part).getroot()
        folders.add(part.parent)
        for compiler in tree.iter("compiler"):
            given = (compiler.get(name) for name in FOLDERS)
            folders |= {model.parent / name for name in given if name}
        named = {element.attrib[name] for element in tree.iter() for name in FILES
                 if element.attrib.get(name)}  # fmt: skip
        names |= named
        more = _found({name for name in named if name.endswith(MODELS)}, folders)
        waiting += more - parts - set(waiting)
    return parts | _found(names, folders)


def _found(names: set[str], folders: set[Path]) -> set[Path]:
    """Return the files of these names in any of the folders."""
    paths = {folder / name for folder in folders for name in names if name.endswith(KINDS)}
    return {Path(os.path.normpath(path)) for path in paths if path.is_file()}
