"""Modes of a command: `run`, `run --seeds`, `run --resume` ... each accept some of its flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from gallop.commands.arguments import Call
from gallop.errors import ExperimentError, alternatives


class Mode(NamedTuple):
    """One way to call a command. Flags have the names that they have in the parsed options."""

    flag: str | None
    """The flag that chooses this mode; None: the mode without such a flag."""
    call: Call
    """Runs the command in this mode."""
    takes: tuple[str, ...]
    """The other flags that it accepts. All modes accept the flags that no mode lists."""
    refusal: str = ""
    """Why it does not accept others, for the message."""


def choose_mode(modes: Sequence[Mode], options: argparse.Namespace) -> Mode:
    """Return the first mode whose flag is given.

    Args:
        modes: of the command.
        options: the parsed options.

    Raises:
        ExperimentError: if a flag is given that this mode does not accept.
    """
    mode = next(mode for mode in modes if mode.flag is None or _is_given(mode.flag, options))
    choosing = [other.flag for other in modes if other.flag is not None]
    for name in dict.fromkeys([*choosing, *(name for other in modes for name in other.takes)]):
        if name in (mode.flag, *mode.takes) or not _is_given(name, options):
            continue
        owners = [other.flag for other in modes if name in other.takes]
        needed = [f"--{flag}" for flag in reversed(owners) if flag is not None]
        if needed and (len(owners) == 1 or not mode.refusal):
            raise ExperimentError(f"{_shown(name, options)} requires {alternatives(needed)}")
        raise ExperimentError(f"{mode.refusal}: leave out {_shown(name, options)}")
    return mode


def setting_flag(name: str, options: argparse.Namespace) -> str:
    """The flag of a setting as it was written on the command line, such as `--seed`."""
    return str(getattr(options, "as_written", {}).get(name, f"--{name}"))


def _is_given(name: str, options: argparse.Namespace) -> bool:
    return getattr(options, name) not in (None, False, {})


def _shown(name: str, options: argparse.Namespace) -> str:
    """A flag as written on the command line; of several settings, the first one."""
    if name == "config":
        return "CONFIG"
    if name == "settings":
        return setting_flag(next(iter(options.settings)), options)
    return f"--{name.replace('_', '-')}"
