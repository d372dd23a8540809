"""A run from start to end, its extension, and several training seeds together."""
