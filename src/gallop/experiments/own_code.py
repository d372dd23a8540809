"""Modules that a user names, for custom tasks and wrappers: how they are found, and where they are.

The current folder must not shadow installed packages: `import cv2` must never find a `cv2.py` in a
downloaded folder, neither here nor in a child process. So the current folder is never on
`sys.path`. A finder behind all others looks there for only two things: the module that
the user has named, and modules that code from that folder imports, then or later (an `import
helper` inside a function). Imports in installed packages never look there. `PYTHONPATH` works as
usual.

Child processes start with `python -P`, which ignores the current folder; they find the user's
modules with this module, relative to the folder in which they are started.
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
from pathlib import Path, PurePath
from types import CodeType, FrameType, ModuleType
from typing import NamedTuple

ISOLATED = "-P"
"""Python's flag for child processes: it puts neither the current nor a script's folder first."""
_USERS_PATH = "GALLOP_PYTHONPATH"
_ISOLATED_VARIABLE = "PYTHONSAFEPATH"  # the same, for processes that multiprocessing starts
_isolating = threading.Lock()  # all threads share the environment

# Limits of a folder whose code is hashed as a whole.
MAX_FILES, MAX_BYTES, MAX_ENTRIES = 1_000, 20_000_000, 20_000


def import_module(name: str) -> ModuleType:
    """Import a module that the user has named, from an installed package or the current folder.

    Raises:
        Exception: any exception that the module raises.
    """
    with _named(name):
        return importlib.import_module(name)


def module_of_file(name: str) -> str | None:
    """Return the module that is meant by the name of a file in the current folder.

    >>> module_of_file("robots/arm.py"), module_of_file("robots.arm")
    ('robots.arm', None)
    """
    parts = PurePath(name.removesuffix(".py")).parts
    if not name.endswith(".py") or not all(part.isidentifier() for part in parts):
        return None
    return ".".join(parts)


@contextlib.contextmanager
def isolated_children() -> Iterator[None]:
    """Context in which processes that multiprocessing starts ignore the current folder."""
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
    """Environment of a child process that finds the same modules in the same order."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        _USERS_PATH: _users_path(),
    }


def _users_path() -> str:
    """PYTHONPATH as set by the user, also in a child process that was given a longer one."""
    return os.environ.get(_USERS_PATH, os.environ.get("PYTHONPATH", ""))


def leave_isolation() -> None:
    """In a worker process: let processes that the task starts run Python as usual."""
    os.environ.pop(_ISOLATED_VARIABLE, None)


# --- the finder ----------------------------------------------------------------------------------


class _OwnCodeFinder:
    """Finds modules in the current folder, for imports that may look there."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.named: list[tuple[str, str]] = []
        """Module and folder of the imports in progress for the user, innermost last."""
        self.found: set[str] = set()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a module that the user has named, or that code from the same folder imports."""
        if path is not None:  # submodules are found next to their package
            return None
        for folder in self.folders:
            if (fullname, folder) in self.named or _is_imported_from(folder):
                spec = PathFinder.find_spec(fullname, [folder])
                if spec is not None:
                    self.found.add(fullname)
                    return _from_source(spec)
        return None


class _PartsFinder:
    """Finds the submodules of packages that the other finder has found."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a submodule of such a package."""
        if path is None or fullname.partition(".")[0] not in _finder.found:
            return None
        spec = PathFinder.find_spec(fullname, path)
        return None if spec is None else _from_source(spec)


class _SourceLoader(SourceFileLoader):
    """Compiles a module from its source, which the user has seen and `digest` covers.

    The files in `__pycache__` of an untrusted folder could contain other code.
    """

    def get_code(self, fullname: str) -> CodeType:
        """Compile the source each time."""
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


# Modules that import by name on behalf of their caller: the caller is the one that counts.
_GO_BETWEENS = ("importlib/__init__.py", "gymnasium/envs/registration.py")


def _is_imported_from(folder: str) -> bool:
    """Whether the import statement that is being executed is in a file under a folder."""
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


# --- where code is -------------------------------------------------------------------------------


class Origin(NamedTuple):
    """Where the code of a module is."""

    module: str
    """Name of the module."""
    files: tuple[Path, ...]
    """The module's file; for a namespace package, its folders; empty if it is built into Python."""
    package: tuple[Path, ...]
    """Folders of the package that the module belongs to; empty for a single file."""
    is_installed: bool
    """Whether it is part of Python or of an installed package, and not from the current folder or
    from PYTHONPATH."""

    def __str__(self) -> str:
        """The files, for messages."""
        where = ", ".join(map(str, self.files)) or "part of Python"
        return f"installed, {where}" if self.is_installed and self.files else where

    def digest(self) -> str:
        """Hash of all code the module may use: importable files of its package or folder."""
        return _digest(self.package or tuple(file.parent for file in self.files), self.files)


def locate(module: str) -> Origin | None:
    """Find where a module would be imported from, without importing it; None if it is not found."""
    top, *parts = module.split(".")
    spec = _find(top)
    if spec is None:
        return None
    folders = _folders(spec)
    is_installed = _is_installed(spec)
    for part in parts:
        below = [str(folder) for folder in _folders(spec)]
        # By its last name: with the full name, Python would need the parents to be imported.
        found = PathFinder.find_spec(part, below) if below else None
        if found is None:
            break
        spec = found
    return Origin(module, _files(spec), folders, is_installed)


def _find(top: str) -> ModuleSpec | None:
    """Find a top-level module, in the same order as `import_module`."""
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
    """Whether a top-level module is part of Python or of an installed package."""
    own = [Path.cwd(), *map(Path, _users_path().split(os.pathsep))]
    chosen = {folder.resolve() for folder in own}
    known = {Path(folder).resolve() for folder in sys.path if folder} - chosen
    places = _folders(spec) or _files(spec)
    return all(place.parent in known for place in places)


def _digest(folders: Sequence[Path], files: Sequence[Path]) -> str:
    """Hash of the names and contents of all importable files under some folders."""
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
    """Hash for large folders: only of the module and the files directly next to it."""
    sizes: dict[Path, int] = {}
    for folder in {*folders, *(file.parent for file in files)}:
        with contextlib.suppress(OSError):
            sizes |= _importable(folder, [path.name for path in folder.iterdir()])
    return _hash(folders, sizes)


def _importable(parent: Path, names: Iterable[str]) -> dict[Path, int]:
    """The regular files that Python could import, and their sizes."""
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
    except OSError as error:  # Python cannot import it either
        return repr(error.errno).encode()
