"""The child process of a work item: a Python module that ends when its parent ends.

python -m gallop.execution.worker [--answering] MODULE ARGUMENTS…, where standard input is a pipe
from the parent. With --answering, standard output is a pipe reserved for answers (answers.py).
"""

from __future__ import annotations

import gc
import os
import runpy
import signal
import sys
import time

from gallop.answers import take_standard_output, tell
from gallop.ending import die_with_parent, standard_input_ends
from gallop.errors import printable, shortened

ANSWERING = "--answering"
SECONDS_TO_STOP = 30.0  # after SIGTERM from the parent, before it kills
SECONDS_ALONE = 5.0  # after the parent's end


def main() -> None:
    """Run the module as `python -m` would, and watch the parent process."""
    gc.set_threshold(20_000)  # as in __main__.py
    die_with_parent(_stop_after_the_parent)
    module, *arguments = sys.argv[1:]
    if module == ANSWERING:
        take_standard_output()
        module, *arguments = arguments
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except Exception as error:  # its traceback goes to the log
        tell(reason=shortened(printable(f"{type(error).__name__}: {error}")))
        raise


def _stop_after_the_parent() -> None:
    """End when the system closes the parent's side of the pipe, so that no orphan trains on."""
    standard_input_ends()
    os.kill(os.getpid(), signal.SIGTERM)  # if there is time, the run stops cleanly
    time.sleep(SECONDS_ALONE)


if __name__ == "__main__":
    main()
