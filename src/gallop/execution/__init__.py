"""Several runs side by side: work items, and the engine that brings them to their ends."""
