"""Evaluation: episodes of a policy, and statistics of their returns."""
