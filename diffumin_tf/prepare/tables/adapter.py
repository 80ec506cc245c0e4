"""The adapter `tables`: a log of impressions + events + side tables → day partitions."""

import contextlib
import os
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from diffumin_tf.errors import DataError
from diffumin_tf.files import staged_directory, write_json
from diffumin_tf.prepare.jobs import sensible_jobs
from diffumin_tf.prepare.joined import adapter as joined
from diffumin_tf.prepare.partitions import Partitions
from diffumin_tf.prepare.spec.joined import JoinedSpec
from diffumin_tf.prepare.spec.tables import TablesSpec
from diffumin_tf.prepare.sql.dialects import DIALECTS
from diffumin_tf.prepare.sql.plan import Plan
from diffumin_tf.prepare.tables.digests import digests_of_days
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.join import Join, open_sources

MakeEngine = Callable[[str], DuckDBEngine]  # of a folder for what does not fit into memory


def prepare_tables(
    spec: TablesSpec,
    input_dir: str,
    output_dir: str,
    make_engine: MakeEngine,
    jobs: int | None,
) -> dict[str, Any]:
    """Joins the tables on an engine and writes the records; returns the manifest.

    Complete days of the same spec are kept if their impressions and behaviours are as they were.
    """
    encoded = joined_spec(spec)
    with _work_folder(output_dir) as work:
        folder = posixpath.join(work, "joined")
        with make_engine(work) as engine:
            _say("reading and looking at the tables")
            join = Join(spec, input_dir, engine, work)
            digests = digests_of_days(join.plan, engine)
            schema = joined.schema(encoded, join.plan.of_impression)
            output = Partitions(output_dir, schema, spec, digests.get)
            kept = [day for day in join.days if day in output.entries]
            if kept and (spec.users or spec.items):
                join.facts["warnings"].append(
                    f"{len(kept)} complete days are kept, with the users and items of when they "
                    "were made"
                )
            left = [day for day in join.days if day not in output.entries]
            if left:
                _say(f"joining {len(left)} days")
                join.write(left, folder)
        if left:
            output = joined.encode(
                encoded, folder, output_dir, jobs=jobs, digests=digests, made_by=spec
            )
    return output.finish(data=join.facts)


@contextlib.contextmanager
def _work_folder(output_dir: str) -> Iterator[str]:
    """A folder on a local disk for what does not fit into memory; a killed run's is removed."""
    if "://" in output_dir:
        with tempfile.TemporaryDirectory(prefix="diffumin-prepare-") as work:
            yield work
        return
    work = posixpath.join(output_dir, ".work")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(output_dir)


def _say(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr)


def join_tables(
    spec: TablesSpec, input_dir: str, output_dir: str, make_engine: MakeEngine
) -> dict[str, Any]:
    """Writes the joined form of the tables and the spec that encodes it; returns the facts."""
    target = posixpath.join(output_dir, "joined")
    with _work_folder(output_dir) as work:
        # A folder that exists holds files of a log that was another one: days would be there twice.
        with staged_directory(target) as staging, make_engine(work) as engine:
            _say("reading and looking at the tables")
            join = Join(spec, input_dir, engine, work)
            join.write(list(join.days), staging)
    encoded = joined_spec(spec).model_dump(mode="json")
    write_json(posixpath.join(output_dir, "prepare.json"), encoded)
    write_json(posixpath.join(output_dir, "report.json"), join.facts)
    return join.facts


def sql_of(spec: TablesSpec, engine: str, input_dir: str | None) -> str:
    """The statements of the join for people to read and to run themselves."""
    position = Plan.position
    with tempfile.TemporaryDirectory(prefix="diffumin-prepare-") as work:
        if input_dir:
            found = open_sources(spec, input_dir, work)
            position = lambda k, column: found[k].position(column)  # noqa: E731
    plan = Plan(spec, DIALECTS[engine], position)
    lines = [f"-- raw_{k}: {table.file}" for k, table in enumerate(spec.tables)]
    statements = [*plan.rows(), *plan.join({}), plan.joined()]
    return "\n".join([*lines, *(f"{statement};\n" for statement in statements)])


def open_engine(
    name: str, master: str | None, jobs: int | None, memory_limit: str, work: str
) -> DuckDBEngine:
    """An engine by its name, which may use the folder `work`."""
    jobs = jobs or sensible_jobs(1 << 10, 1 << 40)
    if name == "duckdb":
        return DuckDBEngine(work, jobs, memory_limit)
    try:
        from diffumin_tf.prepare.tables.spark_engine import SparkEngine
    except ImportError:
        raise DataError("engine spark: pip install 'diffumin_tf[spark]'") from None
    return SparkEngine(work, jobs, master)


def joined_spec(spec: TablesSpec) -> JoinedSpec:
    """How the joined form of a spec's tables is encoded."""
    return JoinedSpec(
        adapter="joined",
        user=spec.impressions.user,
        label={"column": "label"},
        time="time",
        time_unit="ms",
        day="day",
        cat_feature=[name for name in spec.cat_feature if name not in spec.several],
        multi_feature=spec.several,
        dense_feature=spec.dense_feature,
        behaviour=spec.behaviour,
        max_len=spec.max_len,
        spaces=spec.spaces,
        missing=spec.missing,
        utc_offset_hours=spec.utc_offset_hours,
        compression=spec.compression,
        group=spec.group,
        allow=[kind for kind in spec.allow if kind in ("time_range", "own_item")],
    )
