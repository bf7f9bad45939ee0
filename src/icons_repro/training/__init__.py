"""One way to train: warm-up, fine-tuning and the tiny base all use it."""
