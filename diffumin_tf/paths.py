"""Paths that a person gave: what they are relative to, and names that would be read as patterns."""

import os

from diffumin_tf.errors import ConfigError

_WILDCARDS = "*?[\\"  # TensorFlow's


def from_where(*paths: str) -> str:
    """A clause that says what paths are relative to; "" where none of them is."""
    if all(os.path.isabs(path) or "://" in path for path in paths):
        return ""
    return f" (relative to the working directory {os.getcwd()})"


def has_wildcards(path: str) -> bool:
    """Whether a path would be read as a pattern of paths."""
    return any(character in path for character in _WILDCARDS)


def refuse_wildcards(folder: str, flag: str) -> None:
    """Raises ConfigError for a folder whose files a pattern of its own name would not find."""
    if has_wildcards(folder):
        raise ConfigError(
            f"{flag} {folder!r}: its files would be looked for by a pattern; choose a name without "
            f"any of {' '.join(_WILDCARDS)}"
        )
