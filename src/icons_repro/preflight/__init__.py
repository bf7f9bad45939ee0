"""Before the run: what it would do (`plan`), cost (`cost`), and what would stop it (`run`)."""
