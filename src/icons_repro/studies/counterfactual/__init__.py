"""Does the score of a row predict what training on it does? Losses, predictions, their score."""
