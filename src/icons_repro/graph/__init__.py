"""How the steps of one run hang together: which reads which, from the run's config."""
