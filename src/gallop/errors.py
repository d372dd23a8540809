"""Error types, and helpers for one-line messages: the value, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

MAX_DESCRIBED = 300  # characters of an exception's message

MAX_MESSAGE = 1_000  # characters; our longest messages have 400


def printable(text: str) -> str:
    """Return the text as one line in which control characters are spelled out.

    >>> print(printable("a\\x1b[31m"))
    a\\x1b[31m
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Like `printable`, but keep line breaks.

    >>> print(printable_lines("a\\nb\\x1b[31m"))
    a
    b\\x1b[31m
    """
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return at most about `limit` characters: the middle of a longer text is cut out.

    >>> shortened("0123456789", 7)
    '012 … 789'
    """
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def alternatives(names: Iterable[str]) -> str:
    """Join names with commas and "or".

    >>> alternatives(["sac", "td3", "ppo"])
    'sac, td3 or ppo'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def counted(n: int, noun: str) -> str:
    """Return a count with its noun in the singular or plural.

    >>> counted(1, "episode"), counted(2_000, "timestep"), counted(0, "run")
    ('1 episode', '2,000 timesteps', '0 runs')
    """
    return f"{n:,} {noun if n == 1 else f'{noun}s'}"


def described(error: BaseException) -> str:
    """Return the type and message of an exception on one line of limited length.

    >>> described(ValueError("a joint limit\\nand more"))
    'ValueError: a joint limit …'
    """
    name = type(error).__name__
    try:
        lines = [line for line in str(error).splitlines() if line.strip()]
    except Exception:  # a task's exception class may fail, too
        lines = []
    if not lines:
        return name
    first = lines[0].strip()
    if len(first) > MAX_DESCRIBED:
        first = first[:MAX_DESCRIBED].rstrip()
    more = len(lines) > 1 or len(lines[0].strip()) > MAX_DESCRIBED
    return f"{name}: {first}" + (" …" if more else "")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it was raised from, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C is behind an error: compiled modules that it interrupts while they load turn
    the `KeyboardInterrupt` into an `ImportError`."""
    return any(isinstance(each, KeyboardInterrupt) for each in causes(error))


class ExperimentError(ValueError):
    """An experiment cannot be run as specified.

    `field` is the dotted name of the setting at fault, or "". The message is one printable line,
    even where an untrusted file supplies part of it: line breaks and escape sequences are spelled
    out, and the middle of a long message is cut out.
    """

    def __init__(self, message: str, field: str = "") -> None:
        message = shortened(printable(message))
        super().__init__(message)
        self.message = message
        self.field = field


class PlanError(ExperimentError):
    """Total, milestones, evaluation interval and segment do not fit each other.

    `experiment` has the settings, each of which is valid by itself.
    """

    def __init__(self, message: str, field: str, experiment: object) -> None:
        super().__init__(message, field)
        self.experiment = experiment


class DivergedError(RuntimeError):
    """Training diverged to NaN or infinity; the last boundary is still valid.

    `cause` says where the first non-finite numbers came from: "training" (networks or losses),
    "action" (the policy), "observation" or "reward" (the task), "physics" (MuJoCo's simulator).
    `evidence` is what the learner knows about the moments before, as plain JSON.
    """

    def __init__(self, message: str, cause: str = "training") -> None:
        super().__init__(message, cause)
        self.message, self.cause = message, cause
        self.evidence: dict[str, object] = {}

    def __str__(self) -> str:
        return self.message


class TaskError(RuntimeError):
    """A task's own code failed, or returned something that policies and learners cannot use.

    As text it is one printable line: the task, the point in training, what happened, and the file
    and line in the task's code. `where` is filled in by callers that know the timestep. The error
    can be pickled, because worker processes send it to their parent.
    """

    def __init__(
        self, task: str, problem: str, place: str = "", details: str = "", cause: str = ""
    ) -> None:
        """
        Args:
            task: id of the task.
            problem: what happened, such as "ValueError: a joint limit".
            place: file and line in the task's code, if known.
            details: the full traceback, for run.log.
            cause: "observation" or "reward" if that was not finite.
        """
        super().__init__(task, problem, place, details, cause)
        self.task, self.problem, self.place = task, problem, place
        self.details, self.cause = details, cause
        self.where = ""
        self.evidence: dict[str, object] = {}  # as in `DivergedError`, if there is a cause

    def __str__(self) -> str:
        place = f" ({self.place})" if self.place else ""
        where = f", {self.where}" if self.where else ""
        return printable(f"{self.task}{where}: {self.problem}{place}")


class WorkerError(RuntimeError):
    """A process that steps an environment has ended unexpectedly; saved state is still valid."""


class FrozenError(BaseException):
    """A call into a task does not return.

    A `BaseException`, so that an `except Exception` in the task's code cannot catch it.
    """


def nearest(name: str, allowed: list[str]) -> str:
    """Return the end of an error message: the nearest allowed names, else the allowed names.

    >>> names = ["learning_rate", "gamma"]
    >>> nearest("learning_rte", names), nearest("x", names)
    ('did you mean learning_rate?', 'allowed: learning_rate, gamma')
    """
    shown = ", ".join(allowed[:24]) + (", …" if len(allowed) > 24 else "")
    return did_you_mean(name, allowed) or f"allowed: {shown}"


def did_you_mean(name: str, allowed: list[str], similarity: float = 0.6) -> str:
    """Return the question whether an allowed name was meant; empty if none is similar.

    >>> did_you_mean("Hoper-v5", ["Hopper-v5"], 0.8), did_you_mean("Catch-v0", ["CartPole-v0"], 0.8)
    ('did you mean Hopper-v5?', '')
    >>> did_you_mean("gamma", ["game", "hyperparameters.gamma"])
    'did you mean hyperparameters.gamma?'

    Args:
        name: the name that is not allowed; case does not matter.
        allowed: the allowed names. Those of which it is the last part go before similar ones.
        similarity: from 0 to 1, that a name must have at least (`difflib.get_close_matches`).
    """
    last = name.lstrip("-").replace("-", "_").lower()
    if dotted := [each for each in allowed if each.lower().endswith(f".{last}")]:
        return f"did you mean {alternatives(dotted)}?"
    by_lower_case = {candidate.lower(): candidate for candidate in allowed}
    close = difflib.get_close_matches(name.lower(), list(by_lower_case), n=2, cutoff=similarity)
    names = " or ".join(by_lower_case[match] for match in close)
    return f"did you mean {names}?" if close else ""


class RunError(ExperimentError):
    """A run folder cannot be used; the message says why and what to do about it."""


class HeldError(RunError):
    """Another process holds the run's lock."""


class FencedError(RunError):
    """The run was taken from this process and given to another one."""
