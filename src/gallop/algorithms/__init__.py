"""Algorithms: one file for each, and the table that the rest of the package reads."""
