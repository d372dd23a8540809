"""Policies: observation → action, on the kernels or in PyTorch, and the files they are kept in."""
