"""The adapter `eleme`: the public Ele.me files (39 columns, no header) → day partitions."""

import dataclasses
import functools
import re
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.records import SampleColumns
from diffumin_tf.prepare.faulty_rows import FaultyRows
from diffumin_tf.prepare.files import SourceFile, list_files
from diffumin_tf.prepare.partitions import Partitions, digest
from diffumin_tf.prepare.spec import ElemeSpec
from diffumin_tf.prepare.tables.accounts import check
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.sources import Source, open_source, repeats_header
from diffumin_tf.prepare.values import is_empty, missing_as_empty, parse_numbers, value_ids

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

_SEPARATOR = ";"
_CHUNK_ROWS = 2048
_EPOCH_SECONDS = (1e9, 1e10)  # 2001 … 2286: what `times` must be to be taken as a time.


def prepare_eleme(spec: ElemeSpec, input_dir: str, output_dir: str) -> dict[str, Any]:
    """Writes the records of an `ElemeSpec`, a day after the other; returns the manifest.

    Record i of a day (of one part) is the i-th good line of its files.
    """
    days = _files_by_day(spec, input_dir)
    inputs = {day: digest([[f.name, *f.stat] for f in files]) for day, files in days.items()}
    output = Partitions(output_dir, DataStruct.from_dict(SCHEMA), spec, inputs.get)
    for day, files in days.items():
        output.add(day, functools.partial(_samples, spec, files))
    tables = {}
    for entry in output.entries.values():
        tables |= entry.pop("tables")
    return output.finish({"tables": tables})


def _files_by_day(spec: ElemeSpec, input_dir: str) -> dict[str, list[SourceFile]]:
    """The files of every day, in order of days."""
    if isinstance(spec.files, dict):
        return {
            day: [file for name in names for file in list_files(input_dir, name)]
            for day, names in sorted(spec.files.items())
        }
    before, after = map(re.escape, spec.files.split("{yyyymmdd}"))
    found = {}
    for file in list_files(input_dir, ""):
        if match := re.fullmatch(rf"{before}(\d{{8}}){after}", file.name):
            found[match[1]] = [file]
    if not found:
        raise DataError(f"{input_dir}: no file fits the pattern {spec.files!r}")
    return found


def _samples(
    spec: ElemeSpec, files: Sequence[SourceFile], details: dict[str, Any]
) -> Iterator[SampleColumns]:
    tables = details["tables"] = {}
    for file in files:
        name, path = file.name, file.path
        with tempfile.TemporaryDirectory(prefix="diffumin-prepare-") as work:
            source = open_source([path], name, work, ",", "none", COLUMNS)
            # A first line that repeats the names of the columns is none of the rows.
            if not source.is_parquet and repeats_header(source):
                source = dataclasses.replace(source, has_header=True)
            faulty, without_time = FaultyRows(), 0
            with DuckDBEngine(work) as engine:
                for rows, texts in _chunks(engine, source):
                    present = [missing_as_empty(column, spec.missing) for column in texts.columns]
                    cells = pa.RecordBatch.from_arrays(present, COLUMNS)
                    cells = cells.filter(faulty.sort_out(rows, texts, _faults(cells, spec.missing)))
                    samples = _columns(cells, spec)
                    no_time = (samples.auxiliary_info[:, 1] == 0) & ~is_empty(cells["times"])
                    without_time += int(no_time.sum())
                    yield samples
                rejects = engine.rejects(0, source)
            tables[name] = faulty.account(source, rejects)
        tables[name]["bad_values"] = {"times": without_time} if without_time else {}
        check(path, tables[name], spec.max_bad_fraction)


def _chunks(engine: DuckDBEngine, source: Source) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """Rows of a file: their numbers from 1, and their texts, `""` where there is none."""
    engine.add(0, source)
    columns = (engine.dialect.column(source.position(name)) for name in COLUMNS)
    texts = (f"coalesce(CAST({column} AS VARCHAR), '')" for column in columns)
    query = f"SELECT _row, {', '.join(texts)} FROM raw_0"
    for batch in engine.batches(query, _CHUNK_ROWS):
        rows, *cells = batch.columns
        yield rows.to_numpy(), pa.RecordBatch.from_arrays(cells, COLUMNS)


def _faults(cells: pa.RecordBatch, missing: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    label = parse_numbers(cells["clicked"])
    yield "label clicked is neither 0 nor 1", ~np.isin(label, (0, 1))
    for name in DENSE:
        yield f"{name} is no number", _is_no_number(cells[name])
    lengths = _lengths(cells)
    # A cell that is missing as a whole fits lists of any length.
    unequal = (lengths > 0) & (lengths != lengths.max(axis=0))
    yield "lists of unequal length", unequal.any(axis=0)
    for name in BUCKETED_LISTS:
        entries = pc.split_pattern(cells[name], _SEPARATOR)
        wrong = _is_no_number(missing_as_empty(entries.flatten(), missing))
        rows = pc.list_parent_indices(entries).to_numpy()[wrong]
        yield f"{name} holds an entry that is no number", np.isin(np.arange(len(cells)), rows)


def _columns(cells: pa.RecordBatch, spec: ElemeSpec) -> SampleColumns:
    """The samples of good rows."""
    ids = {name: value_ids(name, cells[name], spec.missing) for name in CATEGORICAL}
    seconds = np.nan_to_num(parse_numbers(cells["times"]))
    known = (seconds >= _EPOCH_SECONDS[0]) & (seconds < _EPOCH_SECONDS[1])
    time = np.where(known, seconds, 0).astype(np.int64)
    dense = [parse_numbers(cells[name]).astype(np.float32) for name in DENSE]
    return SampleColumns(
        label=parse_numbers(cells["clicked"]).astype(np.int64),
        auxiliary_info=np.stack([ids["user_id"], time], axis=1),
        cat_feature=np.stack([ids[name] for name in CATEGORICAL], axis=1),
        dense_feature=np.stack(dense, axis=1),
        sequences=_sequences(cells, spec),
    )


def _sequences(cells: pa.RecordBatch, spec: ElemeSpec) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The behaviours by list, most recent first, without those that every list misses."""
    # A missing cell becomes as many missing entries as the row's other lists have.
    lengths = np.maximum(_lengths(cells).max(axis=0), 1)
    all_missing = pc.binary_repeat(_SEPARATOR, pa.array(lengths - 1))
    entries = {}
    for name in LISTS:
        filled = pc.if_else(pc.equal(cells[name], ""), all_missing, cells[name])
        entries[name] = pc.split_pattern(filled, _SEPARATOR).flatten()
    numbers = {
        name: parse_numbers(missing_as_empty(entries[name], spec.missing))
        for name in BUCKETED_LISTS
    }
    ids = {}
    for name, space in SCHEMA["id_space"].items():
        if name in numbers:
            buckets = np.floor(np.log2(1 + np.maximum(numbers[name], 0)))
            ids[name] = value_ids(space, pa.array(buckets))
        else:
            ids[name] = value_ids(space, entries[name], spec.missing)
    known = np.any(list(ids.values()), axis=0)
    kept, splits = _newest_first(numbers["timediff_list"], lengths, spec.list_order, known)
    return {name: (ids[name][kept], splits) for name in LISTS}


def _newest_first(
    age: np.ndarray, lengths: np.ndarray, list_order: str, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Puts the most recent behaviour first and leaves out unknown ones.

    Args:
        age: float64 [total], time since each behaviour; NaN where unknown.
        lengths: int64 [n], at least 1.
        list_order: see `ElemeSpec`; `"auto"` takes a row as oldest first when its first known age
            is larger than its last.
        known: bool [total].

    Returns:
        Indices of the kept behaviours and row splits int64 [n + 1].
    """
    row = np.repeat(np.arange(len(lengths)), lengths)
    if list_order == "auto":
        ages = pd.Series(age).groupby(row)
        reverse = (ages.first() > ages.last()).to_numpy()[row]
    else:
        reverse = np.full(len(row), list_order == "oldest_first")
    index = np.arange(len(row))
    order = np.lexsort([np.where(reverse, -index, index), row])
    order = order[known[order]]
    order = order[pd.Series(row[order]).groupby(row[order]).cumcount() < MAX_LEN]
    return order, np.searchsorted(row[order], np.arange(len(lengths) + 1))


def _lengths(cells: pa.RecordBatch) -> np.ndarray:
    """Entries of every list int64 [lists, n]; 0 where it is missing as a whole."""
    lists = [cells[name] for name in LISTS]
    counts = [pc.count_substring(texts, _SEPARATOR).to_numpy() + 1 for texts in lists]
    return np.where([is_empty(texts) for texts in lists], 0, counts)


def _is_no_number(texts: pa.Array) -> np.ndarray:
    return np.isnan(parse_numbers(texts)) & ~is_empty(texts)
