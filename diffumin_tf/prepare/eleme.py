"""The adapter `eleme`: the public Ele.me files (39 columns, no header) → day partitions."""

import csv
import glob
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.records import SampleColumns
from diffumin_tf.prepare import columns
from diffumin_tf.prepare.bad_lines import BadLines
from diffumin_tf.prepare.eleme_lists import BehaviourLists, list_faults
from diffumin_tf.prepare.partitions import DayWriter, Partitions, inputs_digest
from diffumin_tf.prepare.spec import ElemeSpec
from diffumin_tf.prepare.tables import Chunk, read_table

COLUMNS = tuple(
    "clicked user_id gender visit_city avg_price is_supervip ctr_30 ord_30 total_amt_30 shop_id "
    "item_id city_id district_id shop_aoi_id shop_geohash_6 shop_geohash_12 brand_id category_1_id "
    "merge_standard_food_id rank_7 rank_30 rank_90 shop_id_list item_id_list category_1_id_list "
    "merge_standard_food_id_list brand_id_list price_list shop_aoi_id_list shop_geohash6_list "
    "timediff_list hours_list time_type_list weekdays_list times hours time_type weekdays "
    "geohash12".split()
)
LISTS = tuple(name for name in COLUMNS if name.endswith("_list"))
BUCKETED_LISTS = ("price_list", "timediff_list")
DENSE = ("avg_price", "total_amt_30")
CATEGORICAL = tuple(c for c in COLUMNS if c not in ("clicked", *DENSE, *LISTS))
MAX_LEN = 50

SCHEMA: dict[str, Any] = {
    "label": {"column": ["click"]},
    "auxiliary_info": {"column": ["user_id", "time"]},
    "cat_feature": {"column": list(CATEGORICAL)},
    "dense_feature": {"column": list(DENSE)},
    "sequence_feature": {"column": list(LISTS), "max_len": MAX_LEN},
    "id_space": {
        name: {"shop_geohash6_list": "shop_geohash_6"}.get(name, name.removesuffix("_list"))
        for name in LISTS
    },
}

_CHUNK_ROWS = 2048
_EPOCH_SECONDS = (1e9, 1e10)  # 2001 … 2286: what `times` must be to be taken as a time.


def prepare_eleme(spec: ElemeSpec, input_dir: str, output_dir: str) -> dict[str, Any]:
    """Writes the records of an `ElemeSpec`, a day after the other; returns the manifest.

    Record i of a day (of one part) is the i-th good line of its files.

    Raises:
        DataError: a file cannot be read or holds too many bad lines, or the output holds other
            data.
    """
    settings = {"spec": spec.model_dump(exclude={"files"})}
    schema = DataStruct.from_dict(SCHEMA)
    output = Partitions(output_dir, schema, settings, spec.parts, spec.compression)
    files = day_files(spec, input_dir)
    inputs = {day: inputs_digest(input_dir, names) for day, names in files.items()}
    kept = {day: output.complete(day, inputs[day]) for day in files}
    entries = {}
    for day, names in files.items():
        entries[day] = kept[day]
        if entries[day] is None:
            with output.write(day, inputs[day]) as writer:
                _write_day(spec, schema, input_dir, names, writer)
            entries[day] = writer.entry()
    bad_lines = {f: a for entry in entries.values() for f, a in entry.pop("bad_lines").items()}
    return output.finish(
        entries,
        spec=spec.model_dump(),
        rows_in={file: account["lines"] for file, account in bad_lines.items()},
        dropped_rows={},
        bad_lines=bad_lines,
    )


def day_files(spec: ElemeSpec, input_dir: str) -> dict[str, list[str]]:
    """The names of the files of every day, in order of days.

    Raises:
        DataError: no file fits the pattern.
    """
    if not isinstance(spec.files, str):
        return dict(sorted(spec.files.items()))
    before, after = spec.files.split("{yyyymmdd}")
    day_of = re.compile(re.escape(before) + r"(\d{8})" + re.escape(after))
    found = {}
    for name in sorted(glob.glob(f"**{os.sep}*", root_dir=input_dir, recursive=True)):
        match = day_of.fullmatch(name)
        if match:
            found[match[1]] = [name]
    if not found:
        raise DataError(f"{input_dir}: no file fits the pattern {spec.files!r}")
    return found


def _write_day(
    spec: ElemeSpec, schema: DataStruct, folder: str, names: Sequence[str], writer: DayWriter
) -> None:
    accounts = {}
    for name in names:
        path = posixpath.join(folder, name)
        bad = BadLines(path, spec.max_bad_fraction)
        chunks = read_table(
            path,
            COLUMNS,
            bad,
            header=COLUMNS,
            quoting=csv.QUOTE_NONE,
            missing=spec.missing,
            chunk_rows=_CHUNK_ROWS,
        )
        for chunk in chunks:
            good = chunk.without(list(_faults(chunk, spec.missing)), bad)
            writer.write(samples(schema, good, spec.list_order, spec.missing))
        bad.check()
        accounts[name] = bad.to_dict()
    writer.details["bad_lines"] = accounts


def samples(
    schema: DataStruct, chunk: Chunk, list_order: str, missing: Sequence[str]
) -> SampleColumns:
    """The samples of a chunk of good lines."""
    texts = chunk.columns
    spaces = {name: schema.id_space(name) for name in (*CATEGORICAL, *LISTS)}
    ids = {name: columns.text_ids(spaces[name], texts[name]) for name in CATEGORICAL}
    seconds = np.nan_to_num(columns.numbers(texts["times"]))
    known = (seconds >= _EPOCH_SECONDS[0]) & (seconds < _EPOCH_SECONDS[1])
    time = np.where(known, seconds, 0).astype(np.int64)
    dense = [np.nan_to_num(columns.numbers(texts[name])).astype(np.float32) for name in DENSE]
    return SampleColumns(
        label=columns.numbers(texts["clicked"]).astype(np.int64),
        auxiliary_info=np.stack([ids["user_id"], time], axis=1),
        cat_feature=np.stack([ids[name] for name in CATEGORICAL], axis=1),
        dense_feature=np.stack(dense, axis=1),
        sequences=_sequences(schema, chunk, list_order, missing),
    )


def _faults(chunk: Chunk, missing: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    label = columns.numbers(chunk.columns["clicked"])
    yield "label clicked is neither 0 nor 1", ~np.isin(label, (0, 1))
    for name in DENSE:
        yield f"{name} is no number", columns.not_numbers(chunk.columns[name])
    yield from list_faults(_lists(chunk), BUCKETED_LISTS, missing)


def _sequences(
    schema: DataStruct, chunk: Chunk, list_order: str, missing: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    lists = BehaviourLists.split(_lists(chunk), missing)
    ids = {}
    for name, entries in lists.entries.items():
        space = schema.id_space(name)
        if name in BUCKETED_LISTS:
            value = columns.numbers(entries)
            ids[name] = columns.integer_ids(space, columns.buckets(value), ~np.isnan(value))
        else:
            ids[name] = columns.text_ids(space, entries)
    age = columns.numbers(lists.entries["timediff_list"])
    kept, splits = lists.newest_first(age, list_order, ids, MAX_LEN)
    return {name: (ids[name][kept], splits) for name in LISTS}


def _lists(chunk: Chunk) -> dict[str, pa.Array]:
    return {name: chunk.columns[name] for name in LISTS}
