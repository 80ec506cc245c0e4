"""Day partitions that appear complete or not at all, and that a second run may keep."""

import collections
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.files import staged_directory, write_json
from diffumin_tf.input.records import SUCCESS_FILE, PartWriter, SampleColumns, encode
from diffumin_tf.prepare.spec import RecordSpec

FORMAT_VERSION = 1  # Part of the key: raise it when the same spec would give other records.
_Samples = Callable[[dict[str, Any]], Iterable[SampleColumns]]
_QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
_DAY = re.compile(r"(\d{8})/?")


class Partitions:
    """The output folder: `<yyyymmdd>/part-*`, `data_struct.json`, `manifest.json`.

    Args:
        inputs: gives the digest of a day's input; None for a day that the input does not have.

    Attributes:
        entries: what the manifest says of each day, with its history lengths.

    Raises:
        DataError: the folder holds days that another spec or other input made.
    """

    def __init__(
        self, directory: str, schema: DataStruct, spec: RecordSpec, inputs: Callable
    ) -> None:
        self._directory, self._schema, self._spec, self._inputs = directory, schema, spec, inputs
        # All of the spec but `files` decides what the records are.
        content = {"version": FORMAT_VERSION, "spec": spec.model_dump(exclude={"files"})}
        self._settings = digest(content)
        self.entries: dict[str, dict[str, Any]] = {}
        names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else ()
        days = [match[1] for match in map(_DAY.fullmatch, names) if match]
        self._complete = {day: self._kept_entry(day) for day in sorted(days)}

    def add(self, day: str, samples: _Samples) -> None:
        """Writes a day, unless an earlier run completed it.

        Args:
            samples: gives the samples, in order, in blocks that fit the memory; it may put more
                about the day into the dict that it gets.
        """
        self.entries[day] = self._complete.get(day) or self._write(day, samples)

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Writes and returns the manifest of all days, with further content."""
        entries = {day: dict(self.entries[day]) for day in sorted(self.entries)}
        examples = sum(e["examples"] for e in entries.values())
        clicks = sum(e["clicks"] for e in entries.values())
        lengths = [e.pop("history_lengths") for e in entries.values()]
        manifest = {
            "spec": self._spec.model_dump(),
            **facts,
            "rows_written": examples,
            "click_rate": clicks / examples,
            "history_length": _length_quantiles(lengths),
            "days": entries,
        }
        write_json(posixpath.join(self._directory, "manifest.json"), manifest)
        return manifest

    def _write(self, day: str, samples: _Samples) -> dict[str, Any]:
        try:
            tf.io.gfile.makedirs(self._directory)
        except tf.errors.OpError as error:
            raise DataError(f"{self._directory}: cannot be made: {error.message}") from None
        write_json(posixpath.join(self._directory, SCHEMA_FILE), self._schema.to_dict())
        history = self._schema.variable_sequences[0]
        details: dict[str, Any] = {}
        clicks, lengths = 0, collections.Counter()
        with staged_directory(posixpath.join(self._directory, day)) as staging:
            with PartWriter(staging, self._spec.parts, self._spec.compression) as parts:
                for block in samples(details):
                    parts.write(encode(self._schema, block))
                    clicks += int(block.label.sum())
                    lengths.update(np.diff(block.sequences[history][1]).tolist())
            entry = {
                "examples": parts.examples,
                "clicks": clicks,
                "click_rate": clicks / parts.examples,
                "history_lengths": {str(length): lengths[length] for length in sorted(lengths)},
                **details,
            }
            done = {"settings": self._settings, "inputs": self._inputs(day), "entry": entry}
            write_json(posixpath.join(staging, SUCCESS_FILE), done)
        return entry

    def _kept_entry(self, day: str) -> dict[str, Any]:
        path = posixpath.join(self._directory, day)
        try:
            with tf.io.gfile.GFile(posixpath.join(path, SUCCESS_FILE)) as file:
                done = json.load(file)
            stored = done["settings"], done["inputs"], done["entry"]
        except (tf.errors.OpError, ValueError, KeyError, TypeError):
            stored = None
        if stored is None:
            trouble = f"has no valid {SUCCESS_FILE}"
        elif stored[0] != self._settings:
            trouble = "comes from other settings"
        elif self._inputs(day) not in (None, stored[1]):
            trouble = "comes from other inputs"
        else:
            return stored[2]
        raise DataError(f"{path}: {trouble}; remove it or choose another output")


def inputs_digest(folder: str, names: Sequence[str]) -> str:
    """Digest of the names, sizes and modification times of input files in a folder."""
    stats = []
    for name in names:
        path = posixpath.join(folder, name)
        try:
            stat = os.stat(path)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from None
        stats.append([name, stat.st_size, stat.st_mtime_ns])
    return digest(stats)


def digest(content: Any) -> str:
    """SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _length_quantiles(histograms: Sequence[Mapping[str, int]]) -> dict[str, float]:
    counts = pd.DataFrame(histograms).sum().rename(int).sort_index()
    lengths, cumulative = counts.index.to_numpy(), counts.cumsum().to_numpy()
    ranks = np.searchsorted(cumulative, np.multiply(_QUANTILES, cumulative[-1]))
    quantiles = zip(_QUANTILES, lengths[ranks].tolist(), strict=True)
    return {
        "mean": float(lengths @ counts / cumulative[-1]),
        "min": int(lengths[0]),
        **{f"p{round(100 * q)}": length for q, length in quantiles},
        "max": int(lengths[-1]),
    }
