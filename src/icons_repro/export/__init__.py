"""Export: the model, the adapter and the subset of a run, for other people's programs."""
