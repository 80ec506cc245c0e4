"""Kills a training command again and again; run as a script, so that TensorFlow loads only once.

A fork of a process that has loaded TensorFlow, and not used it yet, starts a run in half the time
of a new process.
"""

import json
import os
import random
import signal
import sys
import time
import traceback

import diffumin_tf  # noqa: F401  (settles Keras 2)

# isort: split

import tensorflow as tf  # noqa: F401  (loaded here, used in the forks)

from diffumin_tf import cli
from diffumin_tf.training.checkpoints import Checkpoints
from diffumin_tf.training.synchronous import SynchronousEngine
from tests.gc_tuning import collect_rarely

STEPS, WRITING = "steps", "writing"


def fork_training(arguments, log):
    """Starts a process that trains; it says `s` before a step and `w` before it writes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.close(reader)
    for owner, name, letter in ((SynchronousEngine, "_step", b"s"), (Checkpoints, "_write", b"w")):
        setattr(owner, name, telling(getattr(owner, name), writer, letter))
    with open(log, "a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 70
    try:
        code = cli.main(["train", *arguments])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def telling(method, writer, letter):
    def tell(*arguments, **keywords):
        os.write(writer, letter)
        return method(*arguments, **keywords)

    return tell


def wait_for(reader, letter, times):
    """Whether the process said a letter so often before it ended."""
    while times:
        said = os.read(reader, 1)
        if not said:
            return False
        times -= said == letter
    return True


def end_of(child, reader):
    _, status = os.waitpid(child, 0)
    os.close(reader)
    return os.waitstatus_to_exitcode(status)


def main(arguments, kills, moment, seed):
    """Kills `kills` processes, then lets one come to its end; prints what happened as JSON."""
    collect_rarely()
    rng = random.Random(seed)
    log = "killed.log"
    done = completed = 0
    while done < kills:
        child, reader = fork_training(arguments, log)
        if moment == STEPS:
            reached = wait_for(reader, b"s", rng.randint(1, 6))
            time.sleep(rng.uniform(0.0, 0.05))
        else:
            reached = wait_for(reader, b"w", rng.randint(1, 3))
            time.sleep(rng.expovariate(1 / 0.01))
        if reached:
            os.kill(child, signal.SIGKILL)
        code = end_of(child, reader)
        done += code == -signal.SIGKILL
        completed += code == 0
        if code not in (0, -signal.SIGKILL) or completed:
            break
    child, reader = fork_training(arguments, log)
    code = end_of(child, reader)
    print(json.dumps({"kills": done, "early_ends": completed, "exit_code": code}))


if __name__ == "__main__":
    main(sys.argv[4:], int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
