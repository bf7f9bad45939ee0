"""From files to batches: records, conversations, images, datasets."""
