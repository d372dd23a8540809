"""Consent to code that a folder names: its task and its wrappers.

An `experiment.yaml` is code: `env: module:Id` imports a module, and a wrapper is any callable with
any arguments. In a folder that this user has not made on this machine, somebody else chose them.
So whoever reads such a file in order to run it comes by here. Nothing is asked about tasks that
Gymnasium itself brings, about Gallop's own wrappers, nor about what this user has run before.

What was decided is remembered for each user, one small file a decision, named by a hash of all that
decides what is run: task, wrappers, their arguments, and

- for a module that the user has named to `gallop run` or `gallop tune`, the path of its file: one's
  own task may be edited, and one's own run may be moved;
- for a module to whose running the user has agreed, the content of its files: others need another
  consent. The same holds for modules that lie in the run's folder, or in the folder below the
  current one that holds it: they came along with it, whatever was run from there before.

Installed packages go by name. Where a module comes from is asked of Python's finders
(`own_code.locate`); nothing of it is imported before it is allowed.
"""

from __future__ import annotations

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
MAX_SHOWN, MAX_TEXT = 8, 160  # pieces of code in a message, characters of each

Answer = TypeVar("Answer")


class Code(NamedTuple):
    """One thing that a file names, and that would be run."""

    what: Literal["task", "wrapper"]
    path: str
    """As the file has it: `module:Id`, `package.module:Class`."""
    arguments: Mapping[str, Any]
    origin: Origin

    def __str__(self) -> str:
        """For people, in one line."""
        arguments = f" with {self.arguments}" if self.arguments else ""
        text = printable(f"{self.what} {self.path}{arguments}")
        shown = text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
        return f"{shown} ({printable(str(self.origin))[:MAX_TEXT]})"


class Request(NamedTuple):
    """All code that a file names, to be agreed to as a whole."""

    file: Path
    codes: tuple[Code, ...]
    identity: str
    """Hash of the settings and of the modules' contents."""

    def lines(self) -> list[str]:
        """What would be run, one line each."""
        more = len(self.codes) - MAX_SHOWN
        shown = [str(code) for code in self.codes[:MAX_SHOWN]]
        return [*shown, f"and {more} more"] if more > 0 else shown


class ConsentError(RunError):
    """A file names code that this user has not agreed to run."""

    def __init__(self, request: Request) -> None:
        super().__init__(
            f"{request.file} names code, and was not made here by you: "
            f"{'; '.join(request.lines())}; --trust runs it"
        )
        self.request = request


# --- reading files that name code ----------------------------------------------------------------


def read_trained(file: Path) -> Experiment:
    """The experiment that a results folder holds, whose code may be run.

    Raises:
        ConsentError: if it names code that this user has not agreed to run.
        ExperimentError: if it is no experiment.
    """
    require(file, read_yaml(file)[0])
    return load(file)


def require(file: Path, settings: object) -> None:
    """Let the code be run that a file's settings name, or say that consent is needed.

    Args:
        settings: a mapping with `env`, `wrappers` and their arguments, as the file has it.

    Raises:
        ConsentError: if this user has not agreed to it.
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
    """What `call` returns, which is called again after each consent that it lacks.

    Args:
        agree: whether to run what is asked about; a consent is remembered.

    Raises:
        ConsentError: if it is not given.
    """
    while True:
        try:
            return call()
        except ConsentError as error:
            if not agree(error.request):
                raise
            _give(error.request.identity, error.request)


def asked_for(experiment: Experiment) -> None:
    """Remember that this user has asked for an experiment, on the command line or in Python, so
    that nothing is asked when what comes of it is looked at. Called when its folder is made."""
    settings = yaml_text.read(to_yaml(experiment))
    settings_asked_for(settings)


def settings_asked_for(settings: object) -> None:
    """The same for the settings of a search's experiment."""
    file = Path("experiment.yaml")
    try:
        codes = tuple(_codes(file, _Named.read(file, settings)))
    except RunError:  # a class from Python whose module no other process could find
        return
    if codes:
        _give(_by_path(codes), None)
        _give(_by_content(codes), None)  # where the current folder is one above the module's own


# --- storages ------------------------------------------------------------------------------------


def storage_asked_for(url: str) -> None:
    """Remember that this user has named the storage of a search.

    Args:
        url: without its password.
    """
    _give(_of_storage(url), None)


def require_storage(file: Path, url: str) -> None:
    """Let a storage be opened that a search's folder names, and not its user.

    Raises:
        RunError: if this user has never named it: opening may write to a file anywhere, or tell a
            server who goes on with the search.
    """
    if not _is_given(_of_storage(url)):
        raise RunError(
            f"{file} names the storage {url:.200}, and you have not named it on this machine: "
            "--storage URL opens it"
        )


def _of_storage(url: str) -> str:
    return hashlib.sha256(repr(("storage", url)).encode("utf-8", "surrogatepass")).hexdigest()


# --- what would be run ---------------------------------------------------------------------------


class _Named(BaseModel):
    """The settings that name code, read as an experiment's are."""

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
        if not isinstance(settings, dict):
            return cls()  # it names nothing, and is nothing that can be run
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
    """The module that making a task runs; None for those that Gymnasium itself brings.

    Its ids for tasks of older versions (`GymV21Environment-v0`) make any task of any module.
    """
    import gymnasium

    module, _, name = env.rpartition(":")
    if module:
        return module
    spec = gymnasium.registry.get(name)
    if spec is None:
        return None  # nobody can make it
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
            f"{file} names {path!r:.200}: there is no module {top!r:.100}, neither installed nor "
            f"in {Path.cwd()}"
        )
    return origin


def _came_along(file: Path, codes: tuple[Code, ...]) -> bool:
    """Whether a module lies in the folder of the file, or in the one below the current folder that
    holds it."""
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
    """Equal for equal plain data alone, whatever the order of keys: 1, 1.0 and true differ."""
    if isinstance(value, Mapping):
        return sorted(((repr(key), _canonical(part)) for key, part in value.items()), key=repr)
    if isinstance(value, list | tuple):
        return [_canonical(part) for part in value]
    return repr(value)


# --- what was decided ----------------------------------------------------------------------------

_PASSED_ON = "GALLOP_CONSENT"  # environment variable: identities, with commas between
_given_here = set(filter(None, os.environ.get(_PASSED_ON, "").split(",")))
"""Decisions that could not be written down, for this process and those that it starts."""


def for_children() -> dict[str, str]:
    """Environment variables by which a child process knows what only this one does."""
    return {_PASSED_ON: ",".join(sorted(_given_here))} if _given_here else {}


def state_folder() -> Path:
    """Where decisions are kept, for this user alone; GALLOP_STATE_DIR names another folder.

    Raises:
        RuntimeError: if this user has no home.
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
    if identity in _given_here:
        return True
    try:
        return _decision(identity).is_file()
    except (OSError, RuntimeError):
        return False


def _give(identity: str, request: Request | None) -> None:
    """Remember it; where nothing can be written, for this process and its children alone."""
    if _is_given(identity):
        return
    lines = [] if request is None else request.lines()
    how = "asked for by the user" if request is None else f"agreed to for {request.file.resolve()}"
    try:
        write_json(_decision(identity), {"how": how, "code": lines})
    except (OSError, RuntimeError) as error:
        _given_here.add(identity)
        print(
            f"gallop: what you have agreed to cannot be remembered ({error}); "
            f"{STATE_VARIABLE} names another folder",
            file=sys.stderr,
        )
