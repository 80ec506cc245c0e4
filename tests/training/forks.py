"""Training commands as forks of one process that has loaded TensorFlow and not used it.

A fork begins at once, where a new process would first load TensorFlow for seconds. Nothing
outlives the test that began it: every process dies with the one that started it.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback

from tests.gc_tuning import collect_rarely
from tests.training.processes import environment

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class Forks:
    """Starts, watches and kills training commands."""

    def __init__(self):
        self._source = subprocess.Popen(
            [sys.executable, "-m", "tests.training.forks"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, log, exp, model_dir, *overrides, task=None, cluster=None):
        """Begins `diffumin train`; its output is added to a file. Returns a number for it."""
        arguments = ["train", f"--exp={exp}", f"--model_dir={model_dir}"]
        arguments += [f"--set={override}" for override in overrides]
        tf_config = ""
        if cluster:
            job, index = task
            tf_config = json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})
        return self._ask(start=arguments, log=str(log), tf_config=tf_config)

    def kill(self, process, number=signal.SIGKILL):
        """Sends a signal."""
        os.kill(process, number)

    def poll(self, process):
        """Exit code of a process; None while it goes on."""
        return self._ask(code=process)

    def code(self, process, seconds=60):
        """Exit code of a process; fails when it does not end in time."""
        end = time.monotonic() + seconds
        while (code := self.poll(process)) is None:
            assert time.monotonic() < end, f"process {process} goes on after {seconds} s"
            time.sleep(0.05)
        return code

    @contextlib.contextmanager
    def ended(self, processes):
        """Kills what is left of some processes at the end of the block, however it ends."""
        try:
            yield processes
        finally:
            for process in processes:
                if self.poll(process) is None:
                    self.kill(process)

    def end(self):
        """Ends everything."""
        self._source.kill()
        self._source.wait()

    def _ask(self, **question):
        self._source.stdin.write(json.dumps(question) + "\n")
        self._source.stdin.flush()
        return json.loads(self._source.stdout.readline())


@contextlib.contextmanager
def forks():
    """Forks that end with the block."""
    ours = Forks()
    try:
        yield ours
    finally:
        ours.end()


def _main():
    import diffumin_tf.run.train  # noqa: F401
    from diffumin_tf import cli

    _die_with_parent()
    collect_rarely()
    codes = {}
    for line in sys.stdin:
        question = json.loads(line)
        if "start" in question:
            answer = os.fork()
            if not answer:
                _run(cli.main, question)
            codes[answer] = None
        else:
            process = question["code"]
            if codes[process] is None:
                ended, status = os.waitpid(process, os.WNOHANG)
                codes[process] = os.waitstatus_to_exitcode(status) if ended else None
            answer = codes[process]
        print(json.dumps(answer), flush=True)


def _run(main, question):
    code = 70
    try:
        _die_with_parent()
        os.environ["TF_CONFIG"] = question["tf_config"]
        with open(question["log"], "a", encoding="utf-8", buffering=1) as file:
            sys.stdout = sys.stderr = file
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            try:
                code = main(question["start"])
            except BaseException:
                traceback.print_exc()
    finally:
        os._exit(code)


def _die_with_parent():
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)


if __name__ == "__main__":
    _main()
