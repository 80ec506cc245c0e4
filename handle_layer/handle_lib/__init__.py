"""Every class here that derives from InputUnit is an input unit that a config can name."""
