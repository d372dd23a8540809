"""Errors as one line each: the value, what is allowed, the nearest right name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MAX_DESCRIBED = 300  # characters of the message of an exception

MAX_MESSAGE = 1_000  # characters; the longest of ours have 400


def printable(text: str) -> str:
    """One line, with all that a terminal would obey spelled out.

    >>> print(printable("a\\x1b[31m"))
    a\\x1b[31m
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """As `printable`, with line ends kept.

    >>> print(printable_lines("a\\nb\\x1b[31m"))
    a
    b\\x1b[31m
    """
    return "\n".join(map(printable, text.split("\n")))


def shortened(text: str, limit: int = MAX_MESSAGE) -> str:
    """At most `limit` characters, both ends kept: what a file holds may be of any length.

    >>> shortened("0123456789", 7)
    '012 … 789'
    """
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def alternatives(names: Iterable[str]) -> str:
    """Names as one says them.

    >>> alternatives(["sac", "td3", "ppo"])
    'sac, td3 or ppo'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def described(error: BaseException) -> str:
    """Type and message of an exception, in one line that is not too long.

    >>> described(ValueError("a joint limit\\nand more"))
    'ValueError: a joint limit …'
    """
    name = type(error).__name__
    try:
        lines = [line for line in str(error).splitlines() if line.strip()]
    except Exception:  # a task's exceptions are a task's code
        lines = []
    if not lines:
        return name
    first = lines[0].strip()
    if len(first) > MAX_DESCRIBED:
        first = first[:MAX_DESCRIBED].rstrip()
    more = len(lines) > 1 or len(lines[0].strip()) > MAX_DESCRIBED
    return f"{name}: {first}" + (" …" if more else "")


class ExperimentError(ValueError):
    """Something in an experiment is wrong; `field` is the dotted name of the setting, if one.

    The message is one printable line, whatever an untrusted file puts into it: line ends and
    escape sequences, which a terminal obeys, are spelled out, and a long one loses its middle.
    """

    def __init__(self, message: str, field: str = "") -> None:
        message = shortened(printable(message))
        super().__init__(message)
        self.message = message
        self.field = field


class DivergedError(RuntimeError):
    """Training has left the finite numbers; the last boundary is still good.

    `cause` says whose numbers went wrong: "training" (networks or losses), "action" (the policy
    gave NaN), "observation" or "reward" (the task did), "physics" (MuJoCo's simulator blew up).
    `evidence` is what a learner knows of the moments before, as plain JSON.
    """

    def __init__(self, message: str, cause: str = "training") -> None:
        super().__init__(message, cause)
        self.message, self.cause = message, cause
        self.evidence: dict[str, object] = {}

    def __str__(self) -> str:
        return self.message


class TaskError(RuntimeError):
    """A task's own code failed, or gave what no policy and no learner can use.

    As text it is one printable line: the task, where it was, what happened, the task's own file
    and line. `where` is filled in by those who know the timestep. It can be pickled, as worker
    processes send it to their parent.
    """

    def __init__(
        self, task: str, problem: str, place: str = "", details: str = "", cause: str = ""
    ) -> None:
        """
        Args:
            task: its id.
            problem: what happened, such as "ValueError: a joint limit".
            place: the task's own file and line, where they are known.
            details: the full traceback, for run.log.
            cause: "observation" or "reward" where that is what was not finite.
        """
        super().__init__(task, problem, place, details, cause)
        self.task, self.problem, self.place = task, problem, place
        self.details, self.cause = details, cause
        self.where = ""
        self.evidence: dict[str, object] = {}  # as of a `DivergedError`, where there is a cause

    def __str__(self) -> str:
        place = f" ({self.place})" if self.place else ""
        where = f", {self.where}" if self.where else ""
        return printable(f"{self.task}{where}: {self.problem}{place}")


class WorkerError(RuntimeError):
    """A process that steps an environment has ended; what was kept is still good."""


class FrozenError(BaseException):
    """A task does not come back from a call. Not for the task's own `except Exception`."""


def nearest(name: str, allowed: list[str]) -> str:
    """The end of an error message: the nearest allowed names, or all of them if they are few.

    >>> nearest("learning_rte", ["learning_rate", "gamma"])
    'did you mean learning_rate?'
    """
    by_lower_case = {candidate.lower(): candidate for candidate in allowed}
    close = difflib.get_close_matches(name.lower(), list(by_lower_case), n=2, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(by_lower_case[match] for match in close)}?"
    shown = ", ".join(allowed[:24]) + (", …" if len(allowed) > 24 else "")
    return f"allowed: {shown}"


class RunError(ExperimentError):
    """A run folder cannot be used; the message says why and what would help."""


class HeldError(RunError):
    """Another process holds the run."""
