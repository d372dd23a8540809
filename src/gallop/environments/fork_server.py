"""Imported by multiprocessing's fork server alone: it ends with the process that started it.

By itself it ends when nobody holds a certain pipe any more, and its own workers do: one that is
frozen would keep it. And workers are told of the end of the fork server, whose children they are.
"""

from gallop.ending import killed_with_parent

killed_with_parent()
