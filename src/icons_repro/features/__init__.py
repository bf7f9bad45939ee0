"""Features of the pool: one pass of a model each, and clustering over them."""
