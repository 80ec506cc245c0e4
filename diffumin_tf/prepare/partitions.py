"""Day partitions that appear complete or not at all, and that a second run may keep."""

import contextlib
import dataclasses
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.files import staged_directory, write_json
from diffumin_tf.input.records import PartWriter, SampleColumns, encode

SUCCESS_FILE = "_SUCCESS.json"
FORMAT_VERSION = 1  # Part of the key: raise it when the same spec would give other records.
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_DAY = re.compile(r"\d{8}")


@dataclasses.dataclass
class DayWriter:
    """Writes the samples of one day and counts them.

    Attributes:
        history: name of the sequence field that gives the history length.
        details: further entries for the day's `_SUCCESS.json`.
    """

    schema: DataStruct
    parts: PartWriter
    history: str
    clicks: int = 0
    lengths: dict[int, int] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    def write(self, samples: SampleColumns) -> None:
        """Appends samples, in order."""
        self.parts.write(encode(self.schema, samples))
        self.clicks += int(samples.label.sum())
        lengths, counts = np.unique(np.diff(samples.sequences[self.history][1]), return_counts=True)
        for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
            self.lengths[length] = self.lengths.get(length, 0) + count

    def entry(self) -> dict[str, Any]:
        """What the manifest says about this day."""
        examples = self.parts.examples
        return {
            "examples": examples,
            "clicks": self.clicks,
            "click_rate": self.clicks / examples if examples else 0.0,
            "history_lengths": {str(n): self.lengths[n] for n in sorted(self.lengths)},
            **self.details,
        }


class Partitions:
    """The output folder: `<yyyymmdd>/part-*`, `data_struct.json`, `manifest.json`.

    Args:
        directory: the output folder.
        schema: schema of the records.
        settings: everything besides the input files that decides what the records are.
        parts, compression: see `PartWriter`.

    Raises:
        DataError: the folder holds partitions that other settings made.
    """

    def __init__(
        self,
        directory: str,
        schema: DataStruct,
        settings: Mapping[str, Any],
        parts: int = 1,
        compression: str = "",
    ) -> None:
        self.directory = directory
        self.schema = schema
        self._parts, self._compression = parts, compression
        self._settings = digest({"version": FORMAT_VERSION, **settings})
        for name in tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else ():
            if _DAY.fullmatch(name.rstrip("/")):
                self._refuse_other(self._path(name.rstrip("/")), "settings", self._settings)

    def complete(self, day: str, inputs: str) -> dict[str, Any] | None:
        """The entry of a day that an earlier run completed from the same input, else None.

        Args:
            day: `yyyymmdd`.
            inputs: digest of the input files of that day.

        Raises:
            DataError: the day is there, but comes from other input.
        """
        path = self._path(day)
        if not tf.io.gfile.exists(path):
            return None
        return self._refuse_other(path, "inputs", inputs)["entry"]

    @contextlib.contextmanager
    def write(self, day: str, inputs: str) -> Iterator[DayWriter]:
        """Yields the writer of a day, which becomes visible when the block ends well."""
        write_json(posixpath.join(self._made(), "data_struct.json"), self.schema.to_dict())
        with staged_directory(self._path(day)) as staging:
            with PartWriter(staging, self._parts, self._compression) as parts:
                writer = DayWriter(self.schema, parts, self.schema.variable_sequences[0])
                yield writer
            done = {"settings": self._settings, "inputs": inputs, "entry": writer.entry()}
            write_json(posixpath.join(staging, SUCCESS_FILE), done)

    def finish(self, entries: Mapping[str, dict[str, Any]], **facts: Any) -> dict[str, Any]:
        """Writes and returns the manifest.

        Args:
            entries: the entry of every day.
            **facts: further content.
        """
        examples = sum(e["examples"] for e in entries.values())
        clicks = sum(e["clicks"] for e in entries.values())
        days = {
            day: {k: v for k, v in entries[day].items() if k != "history_lengths"}
            for day in sorted(entries)
        }
        manifest = {
            **facts,
            "rows_written": examples,
            "click_rate": clicks / examples if examples else 0.0,
            "history_length": _length_quantiles(e["history_lengths"] for e in entries.values()),
            "days": days,
        }
        write_json(posixpath.join(self.directory, "manifest.json"), manifest)
        return manifest

    def _made(self) -> str:
        try:
            tf.io.gfile.makedirs(self.directory)
        except tf.errors.OpError as error:
            raise DataError(f"{self.directory}: cannot be made: {error.message}") from None
        return self.directory

    def _path(self, day: str) -> str:
        return posixpath.join(self.directory, day)

    def _refuse_other(self, path: str, key: str, value: str) -> dict[str, Any]:
        try:
            with tf.io.gfile.GFile(posixpath.join(path, SUCCESS_FILE)) as file:
                done = json.load(file)
        except (tf.errors.OpError, ValueError):
            done = {}
        if done.get(key) != value or "entry" not in done:
            trouble = f"comes from other {key}" if key in done else f"has no valid {SUCCESS_FILE}"
            raise DataError(f"{path}: {trouble}; remove it or choose another output")
        return done


def inputs_digest(folder: str, names: Sequence[str]) -> str:
    """Digest of the names, sizes and modification times of input files in a folder.

    Raises:
        DataError: there is no such file.
    """
    stats = []
    for name in names:
        path = posixpath.join(folder, name)
        try:
            stat = os.stat(path)
        except OSError as error:
            reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
            raise DataError(f"{path}: {reason}") from None
        stats.append([name, stat.st_size, stat.st_mtime_ns])
    return digest(stats)


def digest(content: Any) -> str:
    """SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _length_quantiles(histograms: Iterator[Mapping[str, int]]) -> dict[str, float]:
    total: dict[int, int] = {}
    for histogram in histograms:
        for length, count in histogram.items():
            total[int(length)] = total.get(int(length), 0) + count
    if not total:
        return {}
    lengths = np.array(sorted(total))
    counts = np.array([total[n] for n in lengths.tolist()])
    cumulative = np.cumsum(counts)
    at = np.searchsorted(cumulative, np.multiply(_QUANTILES, cumulative[-1]), side="left")
    return {
        "mean": float(lengths @ counts / cumulative[-1]),
        "min": int(lengths[0]),
        **{f"p{round(100 * q)}": int(lengths[i]) for q, i in zip(_QUANTILES, at, strict=True)},
        "max": int(lengths[-1]),
    }
