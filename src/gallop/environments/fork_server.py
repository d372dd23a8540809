"""Ends multiprocessing's fork server together with the process that started it.

Only the fork server imports this module. On its own, the server ends once no process holds a
certain pipe any more. Its workers hold that pipe, so a frozen worker would keep the server alive.
The workers, in turn, are notified when their parent, the fork server, ends.
"""

from gallop.ending import killed_with_parent

killed_with_parent()
