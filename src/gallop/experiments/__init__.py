"""What a run is asked to do: settings, their defaults, files, and the plan that follows."""
