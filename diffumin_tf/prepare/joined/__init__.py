"""The joined form → records."""
