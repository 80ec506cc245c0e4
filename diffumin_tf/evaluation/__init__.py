"""Exact metrics of predictions, and reports of them."""
