"""Files and folders that appear whole or not at all, and JSON.

Paths are any that `tf.io.gfile` reads, such as `gs://…`.
"""

import contextlib
import errno
import io
import json
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.lock import held
from diffumin_tf.paths import from_where, refuse_wildcards


def read_json(path: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ConfigError: names the file, and the line where it is no JSON.
    """
    try:
        with tf.io.gfile.GFile(path) as file:
            content = json.load(file)
    except tf.errors.OpError as error:
        where = from_where(path)
        raise ConfigError(f"{path}{where}: cannot be read: {error.message}") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: line {error.lineno}: not valid JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error.reason}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must hold a JSON object, not {type(content).__name__}")
    return content


def write_json(path: str, content: Any) -> None:
    """Writes JSON for people to read."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: str, text: str) -> None:
    """Writes a small text file."""
    with staged_file(path, "w") as file:
        file.write(text)


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed `.npz` file."""
    content = io.BytesIO()  # a zip file seeks, which files of `tf.io.gfile` cannot do while written
    np.savez_compressed(content, **arrays)
    with staged_file(path, "wb") as file:
        file.write(content.getvalue())


@contextlib.contextmanager
def staged_file(path: str, mode: str) -> Iterator[tf.io.gfile.GFile]:
    """A file that appears, or replaces one of that name, when the block ends well."""
    temporary = f"{path}.incomplete-{os.getpid()}"
    with _removed_on_failure(path, lambda: tf.io.gfile.remove(temporary)):
        with tf.io.gfile.GFile(temporary, mode) as file:
            yield file
        tf.io.gfile.rename(temporary, path, overwrite=True)


@contextlib.contextmanager
def staged_directory(final: str) -> Iterator[str]:
    """A folder that appears under its final name, safe on the disk, when the block ends well.

    Yields a hidden sibling to write into. What a killed process left of it is removed by the next.

    Raises:
        ConfigError: another process is writing it, or its name would be read as a pattern.
        DataError: the target exists, or the disk is full.
    """
    refuse_wildcards(final, "--output")
    gfile = tf.io.gfile
    parent, name = posixpath.split(final.rstrip("/"))
    staging = posixpath.join(parent, f".{name}.incomplete")
    try:
        gfile.makedirs(parent or ".")
    except tf.errors.OpError as error:
        raise DataError(f"{final}{from_where(final)}: cannot be made: {error.message}") from None
    is_local = "://" not in final
    lock = posixpath.join(parent, f".{name}.lock")
    with held(lock, final, "process") if is_local else contextlib.nullcontext():
        if gfile.exists(final):
            raise DataError(f"{final}: exists already; remove it or choose another output")
        if gfile.exists(staging):
            gfile.rmtree(staging)
        gfile.makedirs(staging)
        with _removed_on_failure(final, lambda: gfile.rmtree(staging)):
            yield staging
            for folder, _, names in gfile.walk(staging):
                sync([*(posixpath.join(folder, name) for name in names), folder.rstrip("/")])
            gfile.rename(staging, final)
            sync([parent])


def sync(paths: Iterable[str]) -> None:
    """Waits until the system wrote files and folders, so that a power failure does not tear them.

    Paths that are not local (`gs://…`) belong to systems that do so by themselves.
    """
    for path in paths:
        if "://" in path:
            continue
        handle = os.open(path or ".", os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk or a quota is exhausted."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, tf.errors.ResourceExhaustedError) or (
        isinstance(error, tf.errors.OpError) and "No space left" in str(error)
    )


@contextlib.contextmanager
def _removed_on_failure(path: str, remove: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(tf.errors.OpError, OSError):
            remove()
        if is_disk_full(error):
            raise DataError(f"{path}: no space left on the disk; nothing was kept") from None
        raise
