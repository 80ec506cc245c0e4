"""One process at a time in a folder, or at an output."""

import contextlib
import fcntl
import os
import posixpath
import socket
from collections.abc import Iterator
from typing import TextIO

from diffumin_tf.errors import ConfigError
from diffumin_tf.paths import from_where, refuse_wildcards

LOCK = ".lock"


@contextlib.contextmanager
def exclusive(folder: str, what: str, flag: str = "--output") -> Iterator[None]:
    """Holds a folder, which is made; one that holds nothing else at the end is removed.

    The system lets go of it when the process ends, however it does. Paths that are not local
    (`gs://…`) are not held: nothing there could.

    Args:
        what: what works in the folder, for the message: "another `what` works here".
        flag: what a person chooses the folder with.

    Raises:
        ConfigError: another process holds it (says which, on which machine), it cannot be made, or
            its name would be read as a pattern.
    """
    refuse_wildcards(folder, flag)
    if "://" in folder:
        yield
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        where = from_where(folder)
        raise ConfigError(f"{folder}{where}: cannot be made: {error.strerror}") from None
    try:
        with held(posixpath.join(folder, LOCK), folder, what, flag):
            yield
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(folder)  # only if it is empty


@contextlib.contextmanager
def held(path: str, target: str, what: str, flag: str = "--output") -> Iterator[None]:
    """Holds `target` by a lock file at a local path, whose folder exists; see `exclusive`."""
    with _opened(path, target) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigError(
                f"{target}: another {what} works here (process {file.read().strip() or '?'}); "
                f"wait for it, or choose another {flag}"
            ) from None
        except OSError as error:
            why = f"cannot be locked: {error.strerror}"
            raise ConfigError(f"{target}: {why}; choose a {flag} on another disk") from None
        if not _is_at(file, path):  # the one before removed it as it let go
            raise ConfigError(f"{target}: another {what} ended here just now; start again")
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _opened(path: str, target: str) -> TextIO:
    try:
        return open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written: {error.strerror}") from None


def _is_at(file: TextIO, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
