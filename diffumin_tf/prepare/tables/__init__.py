"""Raw tables → the joined form."""
