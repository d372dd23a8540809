"""Modules that a user names, tasks and wrappers: how they are found, and where they lie.

The current folder is nobody's library: `cv2.py` in a folder that was downloaded must not be what
`import cv2` finds, neither here nor in a child process. So it is never on `sys.path`. A finder
behind all others looks there for two things alone: the very module that the user has named, and
what code from that folder imports itself, then or later (an `import helper` inside a function). To
installed packages the folder does not exist. `PYTHONPATH` is the user's word and counts as ever.

Child processes begin with `python -P`, which leaves the current folder aside; they find the user's
modules through this module again, from the folder that they are started in.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.machinery
import os
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import NamedTuple

ISOLATED = "-P"
"""Python's flag for child processes: neither the current folder nor a script's comes first."""
_USERS_PATH = "GALLOP_PYTHONPATH"
_ISOLATED_VARIABLE = "PYTHONSAFEPATH"  # the same for those that multiprocessing starts
_isolating = threading.Lock()  # the environment is one for all threads

MAX_FILES, MAX_BYTES, MAX_ENTRIES = 1_000, 20_000_000, 20_000  # of a folder whose code is hashed


def import_module(name: str) -> ModuleType:
    """Import a module that the user has named, from an installed package or the current folder.

    Raises:
        Exception: whatever the module raises.
    """
    with _named(name):
        return importlib.import_module(name)


@contextlib.contextmanager
def isolated_children() -> Iterator[None]:
    """Inside, processes that multiprocessing starts do not look into the current folder."""
    with _isolating:
        before = os.environ.get(_ISOLATED_VARIABLE)
        os.environ[_ISOLATED_VARIABLE] = "1"
        try:
            yield
        finally:
            if before is None:
                os.environ.pop(_ISOLATED_VARIABLE, None)
            else:
                os.environ[_ISOLATED_VARIABLE] = before


def child_environment() -> dict[str, str]:
    """The environment of a child process that finds every module that we find, in our order."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        _USERS_PATH: _users_path(),
    }


def _users_path() -> str:
    """PYTHONPATH as the user has set it, also in a child whose own says more."""
    return os.environ.get(_USERS_PATH, os.environ.get("PYTHONPATH", ""))


def leave_isolation() -> None:
    """In a worker: what the task starts itself shall find Python as it always is."""
    os.environ.pop(_ISOLATED_VARIABLE, None)


# --- the finder ----------------------------------------------------------------------------------


class _OwnCodeFinder:
    """Finds modules in the current folder for those who may look there."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.named: list[tuple[str, str]] = []
        """Module and folder of what is being imported for the user, innermost last."""
        self.found: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The module, if the user named it or code from the same folder asks for it."""
        if path is not None:  # the parts of a package are where the package is
            return None
        for folder in self.folders:
            if (fullname, folder) in self.named or _is_asked_from(folder):
                spec = PathFinder.find_spec(fullname, [folder])
                if spec is not None:
                    self.found.add(fullname)
                    return _from_source(spec)
        return None


class _PartsFinder:
    """Finds the parts of packages that the other finder has found."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """The part, if it is one of such a package."""
        if path is None or fullname.partition(".")[0] not in _finder.found:
            return None
        spec = PathFinder.find_spec(fullname, path)
        return None if spec is None else _from_source(spec)


class _SourceLoader(SourceFileLoader):
    """Compiles a module from its source, which is what a user has seen and `digest` covers. What
    lies in `__pycache__` of a folder from elsewhere could be other code."""

    def get_code(self, fullname: str) -> CodeType:
        """Compiled each time."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def _from_source(spec: ModuleSpec) -> ModuleSpec:
    if type(spec.loader) is SourceFileLoader:
        spec.loader = _SourceLoader(spec.loader.name, spec.loader.path)
    return spec


_finder, _parts_finder = _OwnCodeFinder(), _PartsFinder()


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
        sys.meta_path.insert(0, _parts_finder)
    here = str(Path.cwd())
    if here not in _finder.folders:
        _finder.folders.append(here)
    named = name.partition(".")[0], here
    _finder.named.append(named)
    try:
        yield
    finally:
        _finder.named.remove(named)


# Who imports by a name that somebody else gave: the one who called them is asked about.
_GO_BETWEENS = ("importlib/__init__.py", "gymnasium/envs/registration.py")


def _is_asked_from(folder: str) -> bool:
    """Whether the import statement that is being executed stands in a file below a folder."""
    packages = [path for path in sys.path if path != folder and Path(path).is_relative_to(folder)]
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        between = file.replace(os.sep, "/").endswith(_GO_BETWEENS)
        if not file.startswith("<frozen importlib") and not between:
            is_installed = any(Path(file).is_relative_to(path) for path in packages)
            return Path(file).is_relative_to(folder) and not is_installed
        frame = frame.f_back
    return False


# --- where code lies -----------------------------------------------------------------------------


class Origin(NamedTuple):
    """Where the code of a module lies."""

    module: str
    files: tuple[Path, ...]
    """The module's file; of a namespace package, its folders; none where it is part of Python."""
    package: tuple[Path, ...]
    """Folders of the package that the module belongs to; none where it is a file alone."""
    is_installed: bool
    """Part of Python or of an installed package, and not from a folder that one happens to be in
    or that PYTHONPATH names."""

    def __str__(self) -> str:
        """For people."""
        where = ", ".join(map(str, self.files)) or "part of Python"
        return f"installed, {where}" if self.is_installed and self.files else where

    def digest(self) -> str:
        """Of everything that the module can be made of: the importable files of its package, or of
        the folder that it lies in."""
        return _digest(self.package or tuple(file.parent for file in self.files), self.files)


def locate(module: str) -> Origin | None:
    """Where a module would be imported from; nothing of it is imported. None: from nowhere."""
    top, *parts = module.split(".")
    spec = _find(top)
    if spec is None:
        return None
    folders = _folders(spec)
    is_installed = _is_installed(spec)
    for part in parts:
        below = [str(folder) for folder in _folders(spec)]
        # By its last name: with the whole one, Python asks parents that nobody has imported.
        found = PathFinder.find_spec(part, below) if below else None
        if found is None:
            break
        spec = found
    return Origin(module, _files(spec), folders, is_installed)


def _find(top: str) -> ModuleSpec | None:
    """As `import_module` does."""
    loaded = sys.modules.get(top)
    if loaded is not None:
        if loaded.__spec__ is not None:
            return loaded.__spec__
        spec = ModuleSpec(top, None, origin=getattr(loaded, "__file__", None))
        spec.has_location = spec.origin is not None
        return spec
    for finder in sys.meta_path:
        if finder not in (_finder, _parts_finder) and hasattr(finder, "find_spec"):
            found = finder.find_spec(top, None)
            if found is not None:
                return found
    return PathFinder.find_spec(top, [str(Path.cwd())])


def _folders(spec: ModuleSpec) -> tuple[Path, ...]:
    return tuple(Path(folder).resolve() for folder in spec.submodule_search_locations or ())


def _files(spec: ModuleSpec) -> tuple[Path, ...]:
    if spec.has_location and spec.origin is not None:
        return (Path(spec.origin).resolve(),)
    return _folders(spec)


def _is_installed(spec: ModuleSpec) -> bool:
    """Whether a module at the top comes from Python itself or from a folder of its packages."""
    own = [Path.cwd(), *map(Path, _users_path().split(os.pathsep))]
    chosen = {folder.resolve() for folder in own}
    known = {Path(folder).resolve() for folder in sys.path if folder} - chosen
    places = _folders(spec) or _files(spec)
    return all(place.parent in known for place in places)


def _digest(folders: Sequence[Path], files: Sequence[Path]) -> str:
    """Of the names and contents of all importable files below some folders."""
    sizes: dict[Path, int] = {}
    n_entries = 0
    for folder in folders:
        for parent, below, names in os.walk(folder):
            below[:] = [n for n in below if not n.startswith(".") and n != "__pycache__"]
            n_entries += len(below) + len(names)
            sizes |= _importable(Path(parent), names)
            sizes |= {link: 0 for name in below if (link := Path(parent) / name).is_symlink()}
            if n_entries > MAX_ENTRIES or len(sizes) > MAX_FILES or sum(sizes.values()) > MAX_BYTES:
                return _digest_of_few(folders, files)
    return _hash(folders, sizes)


def _digest_of_few(folders: Sequence[Path], files: Sequence[Path]) -> str:
    """Where there is too much, of the module itself and of what lies directly beside it."""
    sizes: dict[Path, int] = {}
    for folder in {*folders, *(file.parent for file in files)}:
        with contextlib.suppress(OSError):
            sizes |= _importable(folder, [path.name for path in folder.iterdir()])
    return _hash(folders, sizes)


def _importable(parent: Path, names: Iterable[str]) -> dict[Path, int]:
    """The regular files among these that Python could import, and their sizes."""
    suffixes = tuple(importlib.machinery.all_suffixes())
    found = {}
    for name in names:
        if name.endswith(suffixes):
            with contextlib.suppress(OSError):
                status = (parent / name).stat()
                if stat.S_ISREG(status.st_mode):
                    found[parent / name] = status.st_size
    return found


def _hash(folders: Sequence[Path], paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(paths):
        above = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
        name = path.relative_to(above).as_posix()
        content = str(path.readlink()).encode() if path.is_dir() else _content(path)
        digest.update(repr((name, hashlib.sha256(content).hexdigest())).encode())
    return digest.hexdigest()


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except OSError as error:  # nobody can import it either
        return repr(error.errno).encode()
