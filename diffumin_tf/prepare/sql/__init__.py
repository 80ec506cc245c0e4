"""The join of tables as SQL."""
