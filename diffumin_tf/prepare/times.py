"""Units of time, and the times that can be right."""

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
UNIT_MS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
FIRST_YEAR, LAST_YEAR = 1990, 2100  # a time outside of them is one in the wrong unit
