"""Entry point of `python -m gallop`, which is the same as `gallop`."""

import gc
import signal
import sys


def main() -> int:
    """Load the command line and run it; returns the exit code."""
    # While modules load, leave Ctrl-C to the operating system. As an exception it would surface in
    # the middle of some module's import, in whatever form that module turns it into.
    is_pythons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_pythons:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Imports create a million objects that stay; searching them for garbage takes half a second.
    gc.set_threshold(20_000)
    from gallop.commands.cli import main as run

    if is_pythons:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
