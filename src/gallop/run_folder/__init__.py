"""A run's folder: names and formats, whole writes, resume states, lookup, provenance, trackers."""
