"""Learners train a policy: one protocol, implemented on SB3 and on the native kernels."""
