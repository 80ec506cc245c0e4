"""What the data is like, for people."""
