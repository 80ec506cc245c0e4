"""Raw tables to records."""
