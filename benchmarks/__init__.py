"""How fast the product is, and the straightforward model that it is measured against."""
