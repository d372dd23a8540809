"""Asking for consent to code that a folder from elsewhere names: --trust, or a question."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gallop.run_folder.consent import Request


def consenting(options: argparse.Namespace) -> int:
    """Call the command; where it needs a consent, ask for it and call it again. Nothing has been
    written by then: what a folder is read for comes after reading it.

    Raises:
        ConsentError: if it is not given.
    """
    if not hasattr(options, "trust"):
        return int(options.call(options))
    # Light commands do not read run folders, and have no such flag: `gallop --help` answers at once
    from gallop.run_folder.consent import with_consent

    def agree(request: Request) -> bool:
        return trusted(request) if options.trust else _asked(request)

    return with_consent(lambda: int(options.call(options)), agree)


def trusted(request: Request) -> bool:
    """Say what is run without a question."""
    for line in request.lines():
        print(f"{request.file}: runs code of {line}", file=sys.stderr)
    return True


def _asked(request: Request) -> bool:
    """Ask, where there is somebody to be asked."""
    if not sys.stdin.isatty() or not sys.stderr.isatty():
        return False
    say = [f"{request.file} names code, and was not made here by you. It would run:"]
    say += [f"  {line}" for line in request.lines()]
    print("\n".join(say), file=sys.stderr)
    print("Run it, now and later while it is the same? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
