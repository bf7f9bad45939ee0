"""Why one row was chosen, or left: its ranks, nearest validation rows, distance to the cut."""
