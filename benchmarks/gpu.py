"""What a GPU does with `Long_term_DiffuMIN`, in turn with the CPU cores beside it.

One command, some minutes, no data and no network. The most telling sizes come first; what does not
fit into the time is listed as not measured.
"""

import dataclasses
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from absl import flags

from benchmarks import machine
from benchmarks.cell import CPU, GPU, Cell, measure
from benchmarks.contenders import SCORING, TRAINING
from benchmarks.settings import Setting
from diffumin_tf import devices
from diffumin_tf.files import write_json
from diffumin_tf.terminal import exit_code, parse, quiet_stderr

_PROGRAM = "python -m benchmarks.gpu"
_NO_GPU = "no GPU was found"
# (L, B), the most telling first; the keys follow the second one.
_SIZES = ((5000, 64), (5000, 512), (1000, 512), (5000, 4096), (1000, 64), (50, 512), (50, 64))
_SIZES += ((1000, 4096), (50, 4096))
_STANDARD = Setting(1000, overrides=("jit_compile=null",))  # as the device has it
_KEYS = ("jit_compile=false", "deterministic=false", "parallel_parts=2")
_ONE_GROUP, _GROUPS = "half short", "half short, in groups"
_SECONDS = 345  # TensorFlow is loaded before, so that all takes six minutes at most
_LONGEST = 100.0  # seconds for one cell: a step that compiles anew each time shall not take all
_LEAST = 5.0  # with less time left, no cell is begun
# Two processes share the GPU's memory where one of them is not deterministic.
_VARIABLES = {GPU: {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}, CPU: {"CUDA_VISIBLE_DEVICES": "-1"}}

Found = dict[str, list[dict[str, Any]]]


def plan(standard: Setting, sizes: Sequence[tuple[int, int]] = _SIZES) -> list[Cell]:
    """All cells in the order in which they are measured.

    Args:
        standard: what all have in common.
        sizes: (L, B); each key alone is measured at the second one.
    """
    settings = [dataclasses.replace(standard, length=n, batch_size=b) for n, b in sizes]
    kinds, at = (TRAINING, SCORING), settings[1]
    cells = [[Cell(d, kind, s) for kind in kinds for d in (GPU, CPU)] for s in settings]
    keys = [Cell(GPU, kind, at.with_overrides(key), key) for key in _KEYS for kind in kinds]
    for what, buckets in ((_ONE_GROUP, (1,)), (_GROUPS, (16, 4, 1))):
        lengths = tuple(at.length // parts for parts in buckets)
        keys += [Cell(GPU, kind, at, what, lengths) for kind in kinds]
    return sum([*cells[:2], keys, *cells[2:]], [])


class Worker:
    """A process that measures one cell after the other.

    Args:
        variables: environment variables that TensorFlow reads when it is loaded.
    """

    def __init__(self, variables: dict[str, str]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, its_end = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(its_end,), daemon=True)
        with mock.patch.dict(os.environ, variables), quiet_stderr():
            self._process.start()
        its_end.close()

    def measure(self, cell: Cell, seconds: float) -> dict[str, Any]:
        """What `cell.measure` returns; or `why` nothing was measured, and the process is gone."""
        try:
            self._pipe.send(cell)
            if self._pipe.poll(seconds):
                return self._pipe.recv()
            why = f"it took longer than the {seconds:.0f} s it had"
        except (EOFError, OSError):
            why = "its process was killed, perhaps for memory"
        self.stop()
        return {"why": why}

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def stop(self) -> None:
        self._process.kill()
        self._process.join()


def measure_all(
    cells: Sequence[Cell], has_gpu: bool, until: float, say: Callable[[str], None]
) -> Found:
    """Measures cells while there is time.

    Args:
        until: of `time.monotonic`.

    Returns:
        `rows` of what was measured, and `not_measured` with `why`.
    """
    workers: dict[tuple, Worker] = {}
    found: Found = {"rows": [], "not_measured": []}
    for cell in cells:
        left = until - time.monotonic()
        if cell.device == GPU and not has_gpu:
            result = {"why": _NO_GPU}
        elif left < _LEAST:
            result = {"why": "no time was left"}
        else:
            say(cell.name)
            # Nothing makes TensorFlow forget that it is to be deterministic.
            process = cell.device, "deterministic" in cell.what
            if process not in workers or not workers[process].alive:
                workers[process] = Worker(_VARIABLES[cell.device])
            result = workers[process].measure(cell, min(left, _LONGEST))
        where = {"device": cell.device, "kind": cell.kind, "what": cell.what, "name": cell.name}
        where |= {"length": cell.setting.length, "batch_size": cell.setting.batch_size}
        found["not_measured" if "why" in result else "rows"].append({**where, **result})
    for worker in workers.values():
        worker.stop()
    return found


def tables(found: Found) -> str:
    """Markdown: a row for each size, one for each key, and what was not measured."""
    rows = {_place(row, row["device"], row["what"]): row for row in found["rows"]}
    sizes, keys = [], []
    for row in rows.values():
        gpu, cpu = (rows.get(_place(row, device, ""), {}) for device in (GPU, CPU))
        where = [row["kind"], f"{row['length']:,}", f"{row['batch_size']:,}"]
        if row["what"]:
            in_groups = row["what"] == _GROUPS
            beside = rows.get(_place(row, GPU, _ONE_GROUP), {}) if in_groups else gpu
            keys.append([*where, row["what"], *_of_device(row), _times(beside, row)])
        elif row["device"] == GPU or not gpu:
            sizes.append([*where, *_of_device(gpu), *_of_device(cpu)[:3], _times(cpu, gpu)])
    names = ["first, s", "step, ms", "samples/s", "kernels", "their ms", "to host", "MB"]
    on_cpu = [f"CPU: {name}" for name in names[:3]]
    parts = [_markdown(["", "L", "B", *names, *on_cpu, "times the CPU"], sizes)]
    if keys:
        parts.append(_markdown(["", "L", "B", "with", *names, "times without"], keys))
    uncounted = {row["nothing_counted"] for row in found["rows"] if "nothing_counted" in row}
    parts += [f"Kernels were not counted: {why}" for why in sorted(uncounted)]
    reasons: dict[str, list[str]] = {}
    for row in found["not_measured"]:
        reasons.setdefault(row["why"], []).append(row["name"])
    parts += [f"Not measured ({why}): {'; '.join(names)}" for why, names in reasons.items()]
    return "\n\n".join(parts)


def main(argv: Sequence[str]) -> int:
    """Runs what the arguments ask for.

    Args:
        argv: arguments, without the program's name.

    Returns:
        Exit code: 0, also where the time was too short for everything; 1 without a GPU, after the
        CPU was measured; 2 after wrong usage.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("output", None, "JSON file to write.", values)
    flags.DEFINE_integer("seconds", _SECONDS, "How long it may measure.", 1, flag_values=values)
    return exit_code(_run)(values, argv)


def _run(values: flags.FlagValues, argv: Sequence[str]) -> int:
    parse(values, _PROGRAM, argv)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:4.0f} s] {line}", flush=True)

    has_gpu = devices.gpus() > 0
    found = {"command": shlex.join([*shlex.split(_PROGRAM), *argv]), "machine": machine.describe()}
    says_so = json.dumps(found["machine"]) if has_gpu else f"{_NO_GPU}: the CPU alone is measured"
    say(says_so)
    found |= measure_all(plan(_STANDARD), has_gpu, started + values.seconds, say)
    found["seconds"] = time.monotonic() - started
    if values.output:
        write_json(values.output, json.loads(json.dumps(found, default=dataclasses.asdict)))
    print(f"\n{tables(found)}\n\n{says_so}")
    return 0 if has_gpu else 1


def _serve(pipe: Any) -> None:
    """Measures what comes through a pipe, until it is closed."""
    tf.get_logger().setLevel("ERROR")
    while True:
        try:
            cell = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(measure(cell))
        except Exception as error:  # whatever it is, the others can still be measured
            pipe.send({"why": f"{type(error).__name__}: {str(error)[:300]}"})


def _place(row: dict[str, Any], device: str, what: str) -> tuple:
    return device, what, row["kind"], row["length"], row["batch_size"]


def _of_device(row: dict[str, Any]) -> list[str]:
    if not row:
        return ["–"] * 7
    counted = (row.get(key) for key in ("kernels", "kernel_ms", "copies_to_host"))
    return [
        f"{row['first_seconds']:.1f}",
        row["ms"].text(1),
        f"{row['samples_per_second'].median:,.0f}",
        *("–" if value is None else f"{value:,.1f}" for value in counted),
        f"{row['step_bytes'] / 1e6:,.0f}" if "step_bytes" in row else "–",
    ]


def _times(slower: dict[str, Any], faster: dict[str, Any]) -> str:
    both = slower and faster
    return f"{slower['ms'].median / faster['ms'].median:.2f}" if both else "–"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
