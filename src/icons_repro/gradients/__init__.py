"""Per-sample gradients, their random projection, and the store that holds them."""
