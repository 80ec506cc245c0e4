"""Click logs whose truth is known."""
