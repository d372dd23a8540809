"""Gymnasium environments: one by one, and stepping together for training."""
