"""What the processes that make films and audits have in common."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from gallop.answers import take_standard_output, tell
from gallop.ending import die_with_parent, owning_the_process, standard_input_ends
from gallop.errors import FrozenError, printable, shortened


def answering(make: Callable[[], str]) -> int:
    """Do a job in this process, which ends with its parent; tell the parent what came of it.

    Args:
        make: does it, and returns a remark for the parent, or nothing.

    Returns:
        The process's exit code.
    """
    die_with_parent(standard_input_ends)
    take_standard_output()
    if hasattr(os, "nice"):
        os.nice(5)  # training has priority
    try:
        with owning_the_process():
            note = make()
        if note:
            tell(note=note)
    except (Exception, FrozenError) as error:
        traceback.print_exc()  # into the log
        tell(reason=shortened(printable(str(error) or type(error).__name__)))
        return 1
    return 0
