"""Learners: what changes a policy. One protocol, on SB3 and on the kernels."""
