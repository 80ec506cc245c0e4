"""Day partitions that appear complete or not at all, and that a second run may keep."""

import hashlib
import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from diffumin_tf.config.schema import SCHEMA_FILE, DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.files import staged_directory, write_json
from diffumin_tf.input.records import SUCCESS_FILE, PartWriter, SampleColumns, encode
from diffumin_tf.prepare import day_entry
from diffumin_tf.prepare.report import screen as report
from diffumin_tf.prepare.spec.common import RecordSpec
from diffumin_tf.prepare.spec.joined import JoinedSpec

FORMAT_VERSION = 3  # Part of the key: raise it when the same spec would give other records.
_Samples = Callable[[dict[str, Any]], Iterable[SampleColumns]]
_DAY = re.compile(r"(\d{8})/?")


class Partitions:
    """The output folder: `<yyyymmdd>/part-*`, `data_struct.json`, `manifest.json`, `report.html`.

    Args:
        inputs: gives the digest of a day's input; None for a day that the input does not have.

    Attributes:
        settings: digest of what decides what the records are.
        entries: what is known of each complete day: examples, clicks, history lengths, …
        inputs: what each complete day was made from.

    Raises:
        DataError: the folder holds days that another spec or other input made.
    """

    def __init__(
        self,
        directory: str,
        schema: DataStruct,
        spec: RecordSpec | JoinedSpec,
        inputs: Callable[[str], Any],
    ) -> None:
        self.directory, self._schema, self._spec, self._inputs = directory, schema, spec, inputs
        # All of the spec but `files` decides what the records are.
        content = {"version": FORMAT_VERSION, "spec": spec.model_dump(exclude={"files"})}
        self.settings = digest({**content, "stored_once": schema.stored_once})
        self.entries: dict[str, dict[str, Any]] = {}
        self.inputs: dict[str, Any] = {}
        names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else ()
        for day in sorted(match[1] for match in map(_DAY.fullmatch, names) if match):
            self.inputs[day], self.entries[day] = self._kept(day)

    def add(self, day: str, samples: _Samples) -> None:
        """Writes a day, unless an earlier run completed it.

        Args:
            samples: gives the samples, in order, in blocks that fit the memory; it may put more
                about the day into the dict that it gets.
        """
        if day in self.entries:
            return
        details: dict[str, Any] = {}
        entries = []
        with self._staged(day) as staging:
            with PartWriter(staging, self._spec.parts, self._spec.compression) as parts:
                for block in samples(details):
                    parts.write(encode(self._schema, block))
                    entries.append(day_entry.entry_of(day_entry.describe(self._schema, block)))
            entry = {**day_entry.combined(entries), **details}
            self._done(staging, day, entry, self._inputs(day))

    def complete(
        self, day: str, parts: Mapping[str, str], entry: dict[str, Any], inputs: Any
    ) -> None:
        """Makes a day of finished part files, which it moves: name in the day → path."""
        with self._staged(day) as staging:
            for name, path in parts.items():
                tf.io.gfile.rename(path, posixpath.join(staging, name))
            self._done(staging, day, entry, inputs)

    def finish(self, data: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Writes the manifest of all days, and its page; returns the manifest.

        Args:
            data: what was found out about the raw tables, see `report`.
        """
        summary, data = self._summary(), dict(data or {})
        data["warnings"] = [*data.get("warnings", ()), *_warnings(summary)]
        manifest = {"spec": self._spec.model_dump(), **summary, "data": data}
        write_json(posixpath.join(self.directory, "manifest.json"), manifest)
        report.write_page(report.facts_of(manifest), posixpath.join(self.directory, report.PAGE))
        return manifest

    def _summary(self) -> dict[str, Any]:
        """What the manifest says of the records of all days."""
        days = {day: dict(self.entries[day]) for day in sorted(self.entries)}
        total = day_entry.combined(days.values())
        for entry in days.values():
            del entry["history_lengths"], entry["missing"]
        return {
            "rows_written": total["examples"],
            "records": total["records"],
            "group": getattr(self._spec, "group", "none"),
            "click_rate": total["click_rate"],
            "history_length": day_entry.length_quantiles(total["history_lengths"]),
            "empty_histories": total["history_lengths"].get("0", 0) / total["examples"],
            "missing": day_entry.shares(total["missing"]),
            "days": days,
        }

    def _staged(self, day: str):
        try:
            tf.io.gfile.makedirs(self.directory)
        except tf.errors.OpError as error:
            raise DataError(f"{self.directory}: cannot be made: {error.message}") from None
        write_json(posixpath.join(self.directory, SCHEMA_FILE), self._schema.to_dict())
        return staged_directory(posixpath.join(self.directory, day))

    def _done(self, staging: str, day: str, entry: dict[str, Any], inputs: Any) -> None:
        done = {"settings": self.settings, "inputs": inputs, "entry": entry}
        write_json(posixpath.join(staging, SUCCESS_FILE), done)
        self.entries[day], self.inputs[day] = entry, inputs

    def _kept(self, day: str) -> tuple[Any, dict[str, Any]]:
        """What a complete day was made from, and its entry."""
        path = posixpath.join(self.directory, day)
        try:
            with tf.io.gfile.GFile(posixpath.join(path, SUCCESS_FILE)) as file:
                done = json.load(file)
            settings, inputs, entry = done["settings"], done["inputs"], done["entry"]
        except (tf.errors.OpError, ValueError, KeyError, TypeError):
            trouble = f"has no valid {SUCCESS_FILE}"
        else:
            if settings != self.settings:
                trouble = "comes from other settings or an earlier version"
            elif self._inputs(day) not in (None, inputs):
                trouble = "comes from other inputs"
            else:
                return inputs, entry
        raise DataError(f"{path}: {trouble}; remove it or choose another output")


def _warnings(summary: Mapping[str, Any]) -> Iterator[str]:
    """What no data should be like, whatever made it."""
    if summary["click_rate"] in (0, 1):
        yield f"every label is {summary['click_rate']:.0f}"
    if summary["empty_histories"] == 1:
        yield "every history is empty"
    for name, share in summary["missing"].items():
        if share == 1:
            yield f"{name} is missing in every sample"


def digest(content: Any) -> str:
    """SHA-256 of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
