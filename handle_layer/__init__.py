"""Input units, importable under the names of the original release."""
