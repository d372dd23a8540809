"""Training a run from start to end, resuming and extending it, and runs over several seeds."""
