"""Experiments × seeds, each trained in a process of its own, and one table of them."""
