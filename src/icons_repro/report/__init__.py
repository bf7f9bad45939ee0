"""What a run tells people: `results.json`, the end table, one HTML page, sweep tables."""
