"""Films: from a recorded or replayed episode to mp4 and gif, on every machine."""
