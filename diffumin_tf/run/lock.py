"""One run at a time in a folder."""

import contextlib

from diffumin_tf.lock import exclusive
from diffumin_tf.training.cluster import of_environment


def run_lock(
    model_dir: str | None, flag: str = "--model_dir"
) -> contextlib.AbstractContextManager[None]:
    """`exclusive` for the folder of a run; of the tasks of a cluster, the chief alone holds it.

    Args:
        model_dir: None is not held.
        flag: what a person chooses it with.
    """
    cluster = of_environment()
    if not model_dir or (cluster is not None and not cluster.is_chief):
        return contextlib.nullcontext()
    return exclusive(model_dir, "run", flag)
