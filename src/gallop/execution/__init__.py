"""Running several trainings in parallel: work items, and the engine that runs them."""
