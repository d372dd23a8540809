"""Policies: observation → action, on the kernels or in PyTorch, and policy files."""
