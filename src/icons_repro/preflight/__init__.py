"""Find what would stop a run before a GPU hour is spent on it."""
