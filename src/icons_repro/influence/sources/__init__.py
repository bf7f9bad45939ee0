"""What influence is measured with: one file for each representation of a row."""
