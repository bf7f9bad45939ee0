"""GIST: the subspace that a task's validation gradients span, in place of a random projection."""
