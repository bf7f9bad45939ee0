"""Which pictures of validation, pool and test are the same, or nearly so."""
