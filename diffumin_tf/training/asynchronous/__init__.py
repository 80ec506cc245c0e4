"""Training by parameter servers."""
