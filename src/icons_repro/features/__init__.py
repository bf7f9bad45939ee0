"""What selectors read besides influence: forward statistics, embeddings, clusters."""
