"""The layers of DiffuMIN."""
