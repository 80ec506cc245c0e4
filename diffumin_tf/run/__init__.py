"""A run and its folder: set up, train, evaluate, export, go on."""
