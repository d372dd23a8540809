"""The child process of a work item: a Python module that ends when its parent does.

python -m gallop.execution.worker MODULE ARGUMENTS…, with standard input a pipe from the parent.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

SECONDS_TO_STOP = 30.0


def main() -> None:
    """Run the module as `python -m` would, watching the parent."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    module, *arguments = sys.argv[1:]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_the_parent() -> None:
    """However the parent ends, the system closes its side of the pipe: no orphan trains on."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)  # the run stops at its next safe instant
    time.sleep(SECONDS_TO_STOP)
    os._exit(1)


if __name__ == "__main__":
    main()
