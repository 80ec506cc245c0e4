"""Records on disk to batches."""
