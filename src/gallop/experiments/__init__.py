"""The description of a run: settings, defaults, files, and the plan that follows from them."""
