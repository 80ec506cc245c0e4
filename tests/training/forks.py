"""Commands as forks of one process that has loaded TensorFlow and not used it.

A fork begins at once, where a new process would first load TensorFlow for seconds. Nothing
outlives the test that began it: every process dies with the one that started it.
"""

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time
import traceback

from tests.gc_tuning import collect_rarely

ROOT = pathlib.Path(__file__).parents[2]
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
# Below those that Linux gives to connections: a port stays free until its task listens. Each
# process of tests has its own.
_PORTS = 250
_FIRST_PORT = 20_000 + _PORTS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_next_port = itertools.count(random.SystemRandom().randrange(_PORTS)).__next__


def cluster_of(**jobs):
    """Addresses that nobody uses now, for so many tasks by job."""
    return {job: [f"127.0.0.1:{_free_port()}" for _ in range(n)] for job, n in jobs.items()}


def _free_port():
    for _ in range(_PORTS):
        port = _FIRST_PORT + _next_port() % _PORTS
        with socket.socket() as tried, contextlib.suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no free port from {_FIRST_PORT}")


def environment():
    """Of a process that trains by itself, on the CPU, by the code that is tested."""
    own = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": ""}
    return {**os.environ, **own, "PYTHONPATH": str(ROOT)}


class Forks:
    """Starts, watches and kills commands; ends with its `with` block."""

    def __enter__(self):
        self._source = subprocess.Popen(
            [sys.executable, "-m", "tests.training.forks"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *exception):
        self._source.kill()
        self._source.communicate()

    def start(self, log, exp, model_dir, *overrides, command=("train",), task=None, cluster=None):
        """Begins a `diffumin` command; its output is added to a file. Returns its process id."""
        arguments = [*command, f"--exp={exp}", f"--model_dir={model_dir}"]
        arguments += [f"--set={override}" for override in overrides]
        tf_config = ""
        if cluster:
            job, index = task
            tf_config = json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})
        return self._ask(start=arguments, log=str(log), tf_config=tf_config)

    def poll(self, process):
        """Exit code of a process; None while it goes on."""
        return self._ask(code=process)

    def code(self, process, seconds=240):
        """Exit code of a process; fails when it does not end in time."""
        wait_until(lambda: self.poll(process) is not None, seconds, f"process {process}")
        return self.poll(process)

    @contextlib.contextmanager
    def ended(self, processes):
        """Kills what is left of some processes at the end of the block, however it ends."""
        try:
            yield processes
        finally:
            for process in processes:
                if self.poll(process) is None:
                    os.kill(process, signal.SIGKILL)

    def _ask(self, **question):
        self._source.stdin.write(json.dumps(question) + "\n")
        self._source.stdin.flush()
        return json.loads(self._source.stdout.readline())


def wait_until(is_so, seconds, what):
    """Waits for something; fails when it does not come in time."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"{what}: not after {seconds} s"
        time.sleep(0.02)


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
