"""The configuration: JSON to checked objects."""
