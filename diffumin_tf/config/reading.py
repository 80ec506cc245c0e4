"""`task_conf.json` as it is read: what it extends, and overrides on top."""

import json
import posixpath
from collections.abc import Sequence
from typing import Any

from diffumin_tf.errors import ConfigError
from diffumin_tf.files import read_json

TASK_FILE = "task_conf.json"
_EXTENDS = "extends"


def read(path: str, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """A configuration laid over what it extends, with overrides, and the files that it came from.

    Raises:
        ConfigError: a file is missing or no JSON object, extends itself, or an override is
            malformed.
    """
    files, content = lineage(path), {}
    for upper in reversed(files.values()):
        content = _laid_over(content, upper)
    content.pop(_EXTENDS, None)
    for override in overrides:
        _override(content, override)
    return content, list(files)


def lineage(path: str) -> dict[str, dict[str, Any]]:
    """The content of a configuration file, of the one that it extends, … by the names of the files.

    `"extends"` names a folder or file relative to the folder of the file that says so.
    """
    file, files = _file(path), {}
    while True:
        files[file] = read_json(file)
        extended = files[file].get(_EXTENDS)
        if extended is None:
            return files
        if not isinstance(extended, str) or not extended:
            raise ConfigError(
                f"{file}: {_EXTENDS}: must be the folder of another experiment, relative to "
                f"this one's, got {extended!r}"
            )
        base = _normal(_file(posixpath.join(posixpath.dirname(file), extended)))
        if base in map(_normal, files):
            raise ConfigError(f"{file}: {_EXTENDS} {extended!r}: leads back to {base}")
        file = base


def _file(path: str) -> str:
    return path if path.endswith(".json") else posixpath.join(path, TASK_FILE)


def _normal(path: str) -> str:
    """The path without steps up, whatever file system it names."""
    scheme, separator, rest = path.rpartition("://")
    return scheme + separator + posixpath.normpath(rest)


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above`, and what it leaves open; sections are laid over each other key by key."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = {**below[key], **above[key]}
    return merged


def parse_override(override: str) -> tuple[str, Any]:
    """The key of a `key=value` text, and its value: JSON where it is JSON, else text."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r}: must read key=value")
    try:
        return key.strip(), json.loads(text)
    except json.JSONDecodeError:
        return key.strip(), text


def _override(content: dict[str, Any], override: str) -> None:
    key, value = parse_override(override)
    *sections, last = key.split(".")
    target = content
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is no section")
    target[last] = value
