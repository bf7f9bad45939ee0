"""What every part shares: the nouns, the errors, the artifact cache."""
