"""From gradient stores to scores, and from scores to a consensus of the tasks."""
