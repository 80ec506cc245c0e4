"""The native program of tools/serving/native, built once a session."""

import atexit
import functools
import os
import pathlib
import shutil
import subprocess
import tempfile

import tensorflow as tf

SOURCES = pathlib.Path(__file__).parents[2] / "tools" / "serving" / "native"
FLAGS = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror"]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


@functools.cache
def program() -> str:
    """Path of the program, linked to the installed TensorFlow; gone when the session ends."""
    folder = tempfile.mkdtemp(prefix="diffumin_score")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build(os.path.join(folder, "diffumin_score"))


def build(path: str, *flags: str) -> str:
    """Compiles the program to a path, with more flags if need be."""
    libraries = tf.sysconfig.get_lib()
    names = ("libtensorflow_cc.so.2", "libtensorflow_framework.so.2")
    # Takes two seconds for what takes the usual linker ten.
    linker = ["-fuse-ld=gold"] if shutil.which("ld.gold") else []
    done = subprocess.run(
        [
            os.environ.get("CC", "gcc"),
            *FLAGS,
            *linker,
            *flags,
            "-isystem",
            tf.sysconfig.get_include(),
            "-o",
            path,
            *sorted(map(str, SOURCES.glob("*.c"))),
            *(os.path.join(libraries, name) for name in names),
            f"-Wl,-rpath,{libraries}",
            "-pthread",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path


def run(*arguments: object) -> subprocess.CompletedProcess:
    """Runs the program to its end."""
    return subprocess.run(
        [program(), *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
