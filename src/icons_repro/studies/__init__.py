"""Studies: many runs, kept as one `results.csv` that says what they found."""
