"""Export as SavedModel."""
