"""Raw tables → day partitions of records: the entry point of `diffumin prepare`."""

import contextlib
import functools
import os
from typing import Any

from diffumin_tf.errors import ConfigError
from diffumin_tf.lock import exclusive
from diffumin_tf.paths import from_where
from diffumin_tf.prepare.eleme import prepare_eleme
from diffumin_tf.prepare.joined.adapter import WHOLE, prepare_joined
from diffumin_tf.prepare.spec import ElemeSpec, SyntheticSpec, load_spec
from diffumin_tf.prepare.spec.joined import JoinedSpec
from diffumin_tf.prepare.spec.tables import TablesSpec
from diffumin_tf.prepare.synthetic import prepare_synthetic
from diffumin_tf.prepare.tables.adapter import join_tables, open_engine, prepare_tables, sql_of
from diffumin_tf.prepare.tables.duckdb_engine import MEMORY_LIMIT


def prepare(
    spec_path: str,
    input_dir: str | None,
    output_dir: str,
    jobs: int | None = None,
    part: tuple[int, int] = WHOLE,
    engine: str = "duckdb",
    master: str | None = None,
    memory_limit: str = MEMORY_LIMIT,
    join_only: bool = False,
) -> dict[str, Any] | None:
    """Makes `<output_dir>/<yyyymmdd>/part-*`, `data_struct.json` and `manifest.json`.

    A day appears complete or not at all. Running again keeps the complete days of the same spec
    and input and makes the missing ones.

    Args:
        spec_path: a `prepare.json`, see `diffumin_tf.prepare.spec`.
        input_dir: folder of the files that the spec names; None for a synthetic log.
        jobs: processes that write records; None for as many as are worth it.
        part: (k, n) encodes every n-th file of an adapter `joined` from the k-th on and makes no
            day, so that many machines may share an output.
        engine: joins the tables of an adapter `tables`: "duckdb" here, or "spark".
        master: URL of a Spark master; this machine without one.
        memory_limit: of DuckDB, as in "4GB"; what does not fit goes to the disk.
        join_only: writes the joined form instead, with a `prepare.json` that encodes it.

    Returns:
        The manifest: spec, rows read and written, days, history lengths, bad lines. None for a
        slice.

    Raises:
        ConfigError: the spec is wrong, or needs an input.
        DataError: an input is missing, unreadable or has too many bad lines, the output holds data
            of another spec or input, or the disk is full.
    """
    spec = load_spec(spec_path)
    if part != WHOLE and not isinstance(spec, JoinedSpec):
        raise ConfigError(f"{spec_path}: adapter {spec.adapter!r} takes no --slice")
    if not input_dir and not isinstance(spec, SyntheticSpec):
        raise ConfigError(f"{spec_path}: adapter {spec.adapter!r} reads files; give their --input")
    if join_only and not isinstance(spec, TablesSpec):
        raise ConfigError(f"{spec_path}: adapter {spec.adapter!r} has no join")
    if input_dir and "://" not in input_dir and not os.path.isdir(input_dir):
        raise ConfigError(f"--input {input_dir!r}{from_where(input_dir)} is no folder")
    # Slices may work side by side: each file's parts are held by themselves.
    alone = exclusive(output_dir, "prepare") if part == WHOLE else contextlib.nullcontext()
    with alone:
        if isinstance(spec, SyntheticSpec):
            return prepare_synthetic(spec, output_dir)
        if isinstance(spec, JoinedSpec):
            return prepare_joined(spec, input_dir, output_dir, jobs, part)
        if isinstance(spec, ElemeSpec):
            return prepare_eleme(spec, input_dir, output_dir)
        make_engine = functools.partial(open_engine, engine, master, jobs, memory_limit)
        if join_only:
            return join_tables(spec, input_dir, output_dir, make_engine)
        return prepare_tables(spec, input_dir, output_dir, make_engine, jobs)


def print_sql(spec_path: str, engine: str, input_dir: str | None = None) -> str:
    """The statements that join the tables of a spec on an engine.

    Raw tables are the relations `raw_0`, `raw_1`, … in the order impressions, events, users,
    items, with a column `_row` that orders their rows.

    Args:
        input_dir: where the tables lie; without it every column is taken to be named as in the
            spec, not a field of a struct, and every behaviour to count from its time.

    Raises:
        ConfigError: the spec is no spec of tables.
    """
    spec = load_spec(spec_path)
    if not isinstance(spec, TablesSpec):
        raise ConfigError(f"{spec_path}: adapter {spec.adapter!r} has no join")
    return sql_of(spec, engine, input_dir)
