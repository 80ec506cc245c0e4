"""The adapter `joined`: Parquet that an engine joined → day partitions, file by file.

Files are independent. Each becomes one part a day that it holds, kept under `.parts` of the output
until all are done; then the days are made of them. So a killed run goes on with the files that are
left, a new day leaves the others alone, and many machines may each encode a slice of the files.
"""

import itertools
import json
import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.files import staged_directory, write_json
from diffumin_tf.input import records
from diffumin_tf.prepare import day_entry, values
from diffumin_tf.prepare.files import SourceFile, list_files
from diffumin_tf.prepare.jobs import run_tasks, sensible_jobs
from diffumin_tf.prepare.joined.look import look
from diffumin_tf.prepare.joined.piece import Piece
from diffumin_tf.prepare.joined.rows import pieces, shown_columns
from diffumin_tf.prepare.partitions import Partitions, digest
from diffumin_tf.prepare.spec.common import RecordSpec
from diffumin_tf.prepare.spec.joined import JoinedSpec

_PARTS, _NOTE = ".parts", "note.json"
_REPORTED = 8192  # records
_LABEL = "click"
WHOLE = (1, 1)


def prepare_joined(
    spec: JoinedSpec,
    input_dir: str,
    output_dir: str,
    jobs: int | None = 1,
    part: tuple[int, int] = WHOLE,
) -> dict[str, Any] | None:
    """Writes the records of a `JoinedSpec`; returns the manifest, None after a slice."""
    warnings = look(spec, list_files(input_dir, spec.files))
    output = encode(spec, input_dir, output_dir, jobs=jobs, part=part)
    if output is None:
        return None
    files = {name for made_from in output.inputs.values() for name in made_from}
    rows = sum(entry["examples"] for entry in output.entries.values())
    facts = {"role": "impressions", "files": len(files), "rows": rows}
    return output.finish({"tables": {spec.files: facts}, "warnings": warnings})


def encode(
    spec: JoinedSpec,
    input_dir: str,
    output_dir: str,
    *,
    jobs: int | None = 1,
    part: tuple[int, int] = WHOLE,
    digests: Mapping[str, str] | None = None,
    made_by: RecordSpec | None = None,
) -> Partitions | None:
    """Writes the days of `spec.files` in a folder, except those that are complete.

    Args:
        input_dir: a path, or the URI of an object store that `pyarrow.fs` reads.
        jobs: processes; None for as many as are worth it.
        part: (k, n) encodes every n-th file from the k-th on and makes no day; (1, 1) encodes what
            is left and makes the days.
        digests: of what each day was made from; None for names, sizes and times of the files.
        made_by: the spec that a person wrote, where `spec` was made from it.

    Returns:
        The output, whose `finish` writes the manifest; None after a slice.

    Raises:
        DataError: a file is wrong, or a complete day comes from other settings or other input.
    """
    files = list_files(input_dir, spec.files)
    structure = schema(spec, shown_columns(spec, files[0]))
    output = Partitions(output_dir, structure, made_by or spec, (digests or {}).get)
    if digests is None:
        _check_complete_days(output, spec, files)
    folder = posixpath.join(output_dir, _PARTS)
    tasks = [
        _Task(spec, structure, file, posixpath.join(folder, _key(output, spec, file)))
        for file in files
    ]
    left = [t for t in tasks[part[0] - 1 :: part[1]] if not _is_finished(t, output)]
    total = sum(task.file.size for task in left)
    jobs = jobs or sensible_jobs(len(left), total)
    try:
        run_tasks(_encode_file, left, jobs, total)
    finally:
        if tf.io.gfile.isdir(folder) and not tf.io.gfile.listdir(folder):
            tf.io.gfile.rmtree(folder)
    if part != WHOLE:
        return None
    _make_days(output, [t for t in tasks if tf.io.gfile.isdir(t.target)], digests)
    if tf.io.gfile.isdir(folder):
        tf.io.gfile.rmtree(folder)
    if not output.entries:
        raise DataError(f"{input_dir}: no file holds an impression")
    return output


def schema(spec: JoinedSpec, shown: Iterable[str]) -> DataStruct:
    """The schema of the records of a spec.

    Args:
        shown: the columns that lie within the impressions; others are stored once.
    """
    fields = (*spec.cat_feature, *spec.multi_feature)
    spaces = {name: spec.space(name) for name in fields if spec.space(name) != name}
    spaces |= {f"{name}_list": spec.space(name) for name in spec.behaviour}
    content: dict[str, Any] = {
        "label": {"column": [_LABEL]},
        "auxiliary_info": {"column": ["user_id", "time"]},
        "cat_feature": {"column": spec.cat_feature},
        "dense_feature": {"column": spec.dense_feature},
        "multi_feature": {"column": spec.multi_feature},
        "sequence_feature": {
            "column": [f"{name}_list" for name in spec.behaviour],
            "max_len": spec.max_len,
        },
        "id_space": spaces,
        "stored_once": _stored_once(spec, frozenset(shown)),
    }
    return DataStruct.from_dict(content)


def _stored_once(spec: JoinedSpec, shown: frozenset[str]) -> list[str]:
    """The names of which no column lies within the impressions."""
    if spec.group == "none":
        return []
    made_of = {"user_id": {spec.user}, "time": {spec.time}}
    for name in (*spec.cat_feature, *spec.dense_feature, *spec.multi_feature):
        made_of.setdefault(name, set()).add(name)
    made_of.pop(_LABEL, None)  # each impression has its own
    return [name for name, columns in made_of.items() if not columns & shown]


class _Task(NamedTuple):
    spec: JoinedSpec
    schema: DataStruct
    file: SourceFile
    target: str  # the folder of its parts, each named by its day, with a note of what they hold


def _key(output: Partitions, spec: JoinedSpec, file: SourceFile) -> str:
    return digest([output.settings, spec.model_dump(exclude={"files"}), file.name, file.stat])[:16]


def _check_complete_days(output: Partitions, spec: JoinedSpec, files: Sequence[SourceFile]) -> None:
    """The files of complete days are as they were, or gone as a whole."""
    by_name = {file.name: file for file in files}
    for day, inputs in output.inputs.items():
        if not by_name.keys() & inputs:
            continue
        for name, (stat, _) in inputs.items():
            if name not in by_name or by_name[name].stat != stat:
                trouble = "has changed since" if name in by_name else "is gone"
                raise _day_error(output, day, f"was made from {name}, which {trouble}")
    for file in files:
        day = f"{values.day(file.keys.get(spec.day) or ''):08d}"
        if day in output.inputs and file.name not in output.inputs[day]:
            raise _day_error(output, day, f"is complete without {file.name}")


def _day_error(output: Partitions, day: str, trouble: str) -> DataError:
    path = posixpath.join(output.directory, day)
    return DataError(f"{path}: {trouble}; remove it to make it anew, or choose another output")


def _is_finished(task: _Task, output: Partitions) -> bool:
    """Whether all that a file holds lies in complete days or in finished parts."""
    for inputs in output.inputs.values():
        if isinstance(inputs, dict) and task.file.name in inputs:
            if all(day in output.entries for day in inputs[task.file.name][1]):
                return True
    gfile = tf.io.gfile
    try:
        for day, held in _note(task).items():
            if day not in output.entries:
                if gfile.stat(posixpath.join(task.target, day)).length != held["bytes"]:
                    raise ValueError
        return True
    except (tf.errors.OpError, ValueError):  # there are none, or a killed run moved some of them
        if gfile.exists(task.target):
            gfile.rmtree(task.target)
        return False


def _note(task: _Task) -> dict[str, dict[str, Any]]:
    with tf.io.gfile.GFile(posixpath.join(task.target, _NOTE)) as file:
        return json.load(file)


def _encode_file(task: _Task, report: Callable[[int, float], None]) -> None:
    """Makes the parts of a file."""
    spec, structure, file, target = task
    entries: dict[int, dict[str, Any]] = {}
    with staged_directory(target) as staging:
        parts = _Parts(staging, spec.compression)
        for piece in pieces(spec, file):
            _check_shown(task, piece)
            described = day_entry.describe(structure, piece.samples)
            for day, of_day in described.groupby(piece.days):
                added = [entries[day]] if day in entries else []
                entries[day] = day_entry.combined([*added, day_entry.entry_of(of_day)])
            edges = piece.samples.edges
            serialised = records.encode(structure, piece.samples)
            made = zip(serialised, piece.days[edges[:-1]].tolist(), strict=True)
            for begin in range(0, len(edges) - 1, _REPORTED):
                for record, day in itertools.islice(made, _REPORTED):
                    parts[day].write(record)
                rows = int(edges[begin:][: _REPORTED + 1][-1] - edges[begin])
                report(rows, piece.read_bytes * rows / len(piece.days))
        parts.close()
        note = {
            str(day): {
                "bytes": tf.io.gfile.stat(posixpath.join(staging, str(day))).length,
                "entry": entry,
            }
            for day, entry in entries.items()
        }
        write_json(posixpath.join(staging, _NOTE), note)


def _check_shown(task: _Task, piece: Piece) -> None:
    """The impressions of all files hold the same of what a record may store once."""
    once, expected = _stored_once(task.spec, piece.shown), list(task.schema.stored_once)
    for name in once + expected:
        if (name in once) != (name in expected):
            here, there = ("beside", "within") if name in once else ("within", "beside")
            raise DataError(
                f"{task.file.path}: {name!r} lies {here} {task.spec.impressions!r}, and {there} it "
                'in the first file; make them alike, or say "group": "none"'
            )


class _Parts(dict):
    """The writers of the days, each opened when it is first asked for."""

    def __init__(self, folder: str, compression: str) -> None:
        self._folder, self._compression = folder, compression

    def __missing__(self, day: int) -> tf.io.TFRecordWriter:
        path = posixpath.join(self._folder, str(day))
        self[day] = tf.io.TFRecordWriter(path, self._compression or None)
        return self[day]

    def close(self) -> None:
        for writer in self.values():
            writer.close()


def _make_days(
    output: Partitions, tasks: Sequence[_Task], digests: Mapping[str, str] | None
) -> None:
    """Makes the days that are not complete of the parts of all files."""
    days: dict[str, list[tuple[_Task, dict[str, Any]]]] = {}
    for task in tasks:
        note = _note(task)
        for day in note:
            if day not in output.entries:
                days.setdefault(day, []).append((task, note))
            elif digests is None and task.file.name not in output.inputs[day]:
                raise _day_error(output, day, f"is complete without {task.file.name}")
    for day, holders in sorted(days.items()):
        entry = day_entry.combined(note[day]["entry"] for _, note in holders)
        parts = {
            records.part_name(number, task.spec.compression): posixpath.join(task.target, day)
            for number, (task, _) in enumerate(holders)
        }
        inputs = {task.file.name: [task.file.stat, list(note)] for task, note in holders}
        output.complete(day, parts, entry, inputs if digests is None else digests[day])
