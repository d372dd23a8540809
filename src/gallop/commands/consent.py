"""Consent to code that an untrusted folder names: --trust, or a question."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gallop.run_folder.consent import Request


def consenting(options: argparse.Namespace) -> int:
    """Run a command; if it needs consent, ask for it and run the command again.

    Nothing has been written by then, because a command reads a folder before it uses it.

    Args:
        options: the parsed options, with the command to call.

    Returns:
        The exit code.

    Raises:
        ConsentError: if consent is not given.
    """
    if not hasattr(options, "trust"):
        return int(options.call(options))
    # Commands without the flag read no run folders; they need not wait for this import.
    from gallop.run_folder.consent import with_consent

    def agree(request: Request) -> bool:
        return trusted(request) if options.trust else _ask(request)

    return with_consent(lambda: int(options.call(options)), agree)


def trusted(request: Request) -> bool:
    """Agree, and print which code runs."""
    for line in request.lines():
        print(f"{request.file}: runs code of {line}", file=sys.stderr)
    return True


def _ask(request: Request) -> bool:
    """Ask the user; without a terminal, refuse."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return False
    say = [f"{request.file} runs code and was not created by you on this machine:"]
    say += [f"  {line}" for line in request.lines()]
    print("\n".join(say), file=sys.stderr)
    question = "Run this code, now and later as long as it is unchanged? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
