"""One run at a time in a folder."""

import contextlib
import fcntl
import os
import posixpath
from collections.abc import Iterator

from diffumin_tf.errors import ConfigError
from diffumin_tf.training.cluster import of_environment

LOCK = ".lock"


@contextlib.contextmanager
def run_lock(model_dir: str | None, flag: str = "--model_dir") -> Iterator[None]:
    """Holds the folder of a run; the system lets go of it when the process ends, however it does.

    Of the tasks of a cluster, the chief alone does. Folders that are no local paths (`gs://…`)
    are not locked. One that holds nothing else at the end is removed.

    Args:
        model_dir: None is not locked.
        flag: what a person chooses it with.

    Raises:
        ConfigError: another process holds it.
    """
    cluster = of_environment()
    if not model_dir or "://" in model_dir or (cluster is not None and not cluster.is_chief):
        yield
        return
    os.makedirs(model_dir, exist_ok=True)
    with open(posixpath.join(model_dir, LOCK), "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigError(
                f"{model_dir}: another run works here (process {file.read().strip() or '?'}); "
                f"wait for it, or choose another {flag}"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            if os.listdir(model_dir) == [LOCK]:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                    os.rmdir(model_dir)
