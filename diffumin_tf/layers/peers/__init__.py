"""The layers of DiffuMIN's peers."""
