"""Raw tables to histories to records to batches."""
