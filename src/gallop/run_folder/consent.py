"""Consent to run code that a folder names: its task and its wrappers.

An `experiment.yaml` is code: `env: module:Id` imports a module, and a wrapper is any callable with
any arguments. In a folder that this user did not create on this machine, someone else chose them.
So all code that reads such a file in order to run it goes through this module. No consent is needed
for tasks that come with Gymnasium, for Gallop's own wrappers, and for what this user ran before.

Decisions are stored per user, one small file per decision, named by a hash of everything that
determines which code runs: task, wrappers, their arguments, and

- for a module that the user named to `gallop run` or `gallop tune`, the path of its file: users may
  edit their own tasks and move their own runs;
- for a module that the user agreed to run, the content of its files: changed files need a new
  consent. The same holds for modules in the run's folder, or in the subfolder of the current folder
  that contains it: they came with the run, whatever else was run from there before.

Installed packages are identified by name. Python's finders tell where a module comes from
(`own_code.locate`); no part of it is imported before consent is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from gallop.errors import ExperimentError, RunError, printable
from gallop.experiments import own_code, yaml_text
from gallop.experiments.own_code import Origin
from gallop.experiments.settings import Experiment
from gallop.experiments.yaml_file import load, read_yaml, to_yaml
from gallop.fields import Arguments, Wrapper
from gallop.run_folder.files import write_json

STATE_VARIABLE = "GALLOP_STATE_DIR"
OWN_WRAPPERS = ("time_feature", "TimeFeature", "StopAtUnstablePhysics")
_OWN_MODULE = "gallop.environments.wrappers"
MAX_SHOWN, MAX_TEXT = 8, 160  # pieces of code in a message, and characters of each

Answer = TypeVar("Answer")


class Code(NamedTuple):
    """A piece of code named by a file, which would be run."""

    what: Literal["task", "wrapper"]
    path: str
    """As written in the file: `module:Id`, `package.module:Class`."""
    arguments: Mapping[str, Any]
    origin: Origin

    def __str__(self) -> str:
        """Describe it on one line for the user."""
        arguments = f" with {self.arguments}" if self.arguments else ""
        text = printable(f"{self.what} {self.path}{arguments}")
        shown = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
        return f"{shown} ({printable(str(self.origin))[:MAX_TEXT]})"


class Request(NamedTuple):
    """All code that a file names; the user agrees to all of it or none."""

    file: Path
    codes: tuple[Code, ...]
    identity: str
    """Hash of the settings and of the modules' contents."""

    def lines(self) -> list[str]:
        """Describe what would be run, one line per piece of code."""
        more = len(self.codes) - MAX_SHOWN
        shown = [str(code) for code in self.codes[:MAX_SHOWN]]
        return [*shown, f"and {more} more"] if more > 0 else shown


class ConsentError(RunError):
    """A file names code that this user has not agreed to run."""

    def __init__(self, request: Request) -> None:
        """
        Args:
            request: the code to be agreed to.
        """
        super().__init__(
            f"{request.file} runs code and was not created by you on this machine: "
            f"{'; '.join(request.lines())}; add --trust to run it"
        )
        self.request = request


# --- reading files that name code ----------------------------------------------------------------


def read_trained(file: Path) -> Experiment:
    """Read an experiment from a results folder, after checking that its code may be run.

    Raises:
        ConsentError: if it names code that this user has not agreed to run.
        ExperimentError: if it is not a valid experiment.
    """
    require(file, read_yaml(file)[0])
    return load(file)


def require(file: Path, settings: object) -> None:
    """Check that the code named by a file's settings may be run.

    Args:
        file: the file.
        settings: a mapping with `env`, `wrappers` and their arguments, as in the file.

    Raises:
        ConsentError: if this user has not agreed to run it.
        ExperimentError: if the settings are malformed, or a module is not found.
    """
    codes = tuple(_codes(file, _Named.read(file, settings)))
    if not codes:
        return
    if not _came_along(file, codes) and _is_given(_by_path(codes)):
        return
    request = Request(file, codes, _by_content(codes))
    if not _is_given(request.identity):
        raise ConsentError(request)


def with_consent(call: Callable[[], Answer], agree: Callable[[Request], bool]) -> Answer:
    """Return what `call` returns, calling it again after each consent that was missing.

    Args:
        call: may raise `ConsentError`.
        agree: asks the user whether to run the code; a consent is remembered.

    Raises:
        ConsentError: if the user does not agree.
    """
    while True:
        try:
            return call()
        except ConsentError as error:
            if not agree(error.request):
                raise
            _give(error.request.identity, error.request)


def asked_for(experiment: Experiment) -> None:
    """Remember that this user requested an experiment, on the command line or in Python.

    Called when its folder is made, so that later commands on that folder need no consent.
    """
    settings = yaml_text.read(to_yaml(experiment))
    settings_asked_for(settings)


def settings_asked_for(settings: object) -> None:
    """Remember the same for the settings of a search's experiment."""
    file = Path("experiment.yaml")
    try:
        codes = tuple(_codes(file, _Named.read(file, settings)))
    except RunError:  # a class made in Python, whose module no other process can find
        return
    if codes:
        _give(_by_path(codes), None)
        _give(_by_content(codes), None)  # for modules in a subfolder of the current folder


# --- storages ------------------------------------------------------------------------------------


def storage_asked_for(url: str) -> None:
    """Remember that this user named the storage of a search.

    Args:
        url: the storage, without its password.
    """
    _give(_of_storage(url), None)


def require_storage(file: Path, url: str) -> None:
    """Check that a storage named by a search's folder, not by the user, may be opened.

    Opening it may write to a file anywhere, or contact a server.

    Args:
        file: the file that names it.
        url: the storage, without its password.

    Raises:
        RunError: if this user has never named it.
    """
    if not _is_given(_of_storage(url)):
        raise RunError(
            f"{file} names the storage {url:.200}, which you have not used on this machine; to "
            "open it, pass it with --storage URL"
        )


def _of_storage(url: str) -> str:
    return hashlib.sha256(repr(("storage", url)).encode("utf-8", "surrogatepass")).hexdigest()


# --- what would be run ---------------------------------------------------------------------------


class _Named(BaseModel):
    """The settings that name code, validated like those of an experiment."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    env: str = ""
    env_kwargs: Arguments = {}
    eval_env_kwargs: Arguments = {}
    wrappers: tuple[Wrapper, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nothing(cls, data: object) -> object:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data

    @classmethod
    def read(cls, file: Path, settings: object) -> _Named:
        """Validate the settings of a file.

        Raises:
            ExperimentError: if they are malformed.
        """
        if not isinstance(settings, dict):
            return cls()  # names nothing, and cannot be run either
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"])) or "experiment"
            raise ExperimentError(f"{file}: {name}: {first['msg']}", name) from None


def _codes(file: Path, named: _Named) -> Iterator[Code]:
    module = _module_of_task(named.env)
    if module is not None:
        arguments = {**named.env_kwargs, **named.eval_env_kwargs}
        yield Code("task", named.env, arguments, _located(file, named.env, module))
    for wrapper in named.wrappers:
        for path, kwargs in wrapper.items():
            module, _, name = path.replace(":", ".").rpartition(".")
            if (module, name in OWN_WRAPPERS) != (_OWN_MODULE, True):
                yield Code("wrapper", path, kwargs, _located(file, path, module))


def _module_of_task(env: str) -> str | None:
    """Return the module that making a task runs; None for tasks that come with Gymnasium.

    Gymnasium's ids for old environments (`GymV21Environment-v0`) can make a task of any module.
    """
    import gymnasium

    module, _, name = env.rpartition(":")
    if module:
        return module
    spec = gymnasium.registry.get(name)
    if spec is None:
        return None  # it cannot be made
    entry_point = spec.entry_point
    if isinstance(entry_point, str):
        module = entry_point.partition(":")[0]
        return None if module.startswith("gymnasium.envs.") else module
    return str(getattr(entry_point, "__module__", None) or "builtins")


def _located(file: Path, path: str, module: str) -> Origin:
    origin = own_code.locate(module)
    if origin is None:
        top = module.partition(".")[0]
        raise RunError(
            f"{file} names {path!r:.200}, but module {top!r:.100} was not found: it is neither "
            f"installed nor in {Path.cwd()}"
        )
    return origin


def _came_along(file: Path, codes: tuple[Code, ...]) -> bool:
    """Whether a module is in the file's folder, or in the subfolder of the current folder that
    contains the file."""
    here, folder = Path.cwd().resolve(), file.resolve().parent
    folders = [folder]
    if folder.is_relative_to(here) and folder != here:
        folders.append(here / folder.relative_to(here).parts[0])
    own = [path for c in codes if not c.origin.is_installed for path in c.origin.files]
    return any(path.is_relative_to(above) for path in own for above in folders)


def _by_path(codes: tuple[Code, ...]) -> str:
    return _identity(codes, lambda origin: repr(sorted(map(str, origin.files))))


def _by_content(codes: tuple[Code, ...]) -> str:
    return _identity(codes, Origin.digest)


def _identity(codes: tuple[Code, ...], of_module: Callable[[Origin], str]) -> str:
    parts = [
        (
            code.what,
            code.path,
            _canonical(code.arguments),
            "installed" if code.origin.is_installed else of_module(code.origin),
        )
        for code in codes
    ]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _canonical(value: object) -> object:
    """Return a form that is equal only for equal data, in any order of keys; 1, 1.0 and true
    differ."""
    if isinstance(value, Mapping):
        return sorted(((repr(key), _canonical(part)) for key, part in value.items()), key=repr)
    if isinstance(value, list | tuple):
        return [_canonical(part) for part in value]
    return repr(value)


# --- what was decided ----------------------------------------------------------------------------

_PASSED_ON = "GALLOP_CONSENT"  # environment variable: identities, separated by commas
_given_here = set(filter(None, os.environ.get(_PASSED_ON, "").split(",")))
"""Decisions that could not be stored; they hold for this process and its children."""
_used = set(_given_here)
"""All decisions that this process has relied on."""


def for_children() -> dict[str, str]:
    """Return environment variables that pass unstored decisions on to a child process."""
    return _passed_on(_given_here)


def for_other_machines() -> dict[str, str]:
    """Return the same for a process that may not see what this user has stored here: all decisions
    that this process has relied on."""
    return _passed_on(_used)


def _passed_on(identities: set[str]) -> dict[str, str]:
    return {_PASSED_ON: ",".join(sorted(identities))} if identities else {}


def state_folder() -> Path:
    """Return the user's folder of decisions; GALLOP_STATE_DIR overrides it.

    Raises:
        RuntimeError: if the user has no home folder.
    """
    chosen = os.environ.get(STATE_VARIABLE)
    if chosen:
        return Path(chosen)
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "gallop"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "gallop"
    states = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (states if states.is_absolute() else Path.home() / ".local" / "state") / "gallop"


def _decision(identity: str) -> Path:
    return state_folder() / "consent" / f"{identity}.json"


def _is_given(identity: str) -> bool:
    is_given = identity in _given_here
    with contextlib.suppress(OSError, RuntimeError):
        is_given = is_given or _decision(identity).is_file()
    if is_given:
        _used.add(identity)
    return is_given


def _give(identity: str, request: Request | None) -> None:
    """Store a decision; if it cannot be written, it holds for this process and its children."""
    if _is_given(identity):
        return
    _used.add(identity)
    lines = [] if request is None else request.lines()
    how = "requested by the user" if request is None else f"agreed to for {request.file.resolve()}"
    try:
        write_json(_decision(identity), {"how": how, "code": lines})
    except (OSError, RuntimeError) as error:
        _given_here.add(identity)
        print(
            f"gallop: your consent cannot be saved ({error}); set {STATE_VARIABLE} to a folder "
            "that can be written",
            file=sys.stderr,
        )
