"""Algorithms: one file each, and the table that the rest of the package reads."""
