"""`python -m gallop` is `gallop`."""

import signal
import sys


def main() -> int:
    """Load the command line and run it."""
    # Ctrl-C while modules load ends the process as the system does. As an exception it would come
    # out of the middle of somebody's import, in whatever form that gives it.
    is_pythons = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_pythons:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gallop.commands.cli import main as run

    if is_pythons:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
