"""What `prepare` found out about the data: facts, warnings, refusals that a spec may overrule."""

from collections.abc import Sequence
from typing import Any

from diffumin_tf.errors import DataError

FEW_ROWS = 20  # so few say nothing


class Findings:
    """Facts, and what follows from them.

    Attributes:
        facts: what was found, as JSON.
    """

    def __init__(self, allow: Sequence[str]) -> None:
        self._allow = allow
        self.facts: dict[str, Any] = {"tables": {}, "joins": [], "warnings": [], "allowed": []}

    def warn(self, line: str) -> None:
        self.facts["warnings"].append(line)

    def refuse(self, kind: str, line: str) -> None:
        """Raises a DataError, or warns where the spec allows this kind."""
        if kind not in self._allow:
            raise DataError(f'{line}; if it is right, "allow": ["{kind}"] insists')
        self.facts["allowed"].append(kind)
        self.warn(line)
