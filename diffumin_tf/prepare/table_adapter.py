"""The adapter `tables`: a log of impressions + events + side tables → day partitions."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.records import SampleColumns
from diffumin_tf.prepare.histories import Histories, point_in_time
from diffumin_tf.prepare.joined_tables import Table, TableReader
from diffumin_tf.prepare.partitions import Partitions, inputs_digest
from diffumin_tf.prepare.spec import TablesSpec

_BLOCK_ROWS = 8192
_MS_PER_SECOND = 1000


def prepare_tables(spec: TablesSpec, input_dir: str, output_dir: str) -> dict[str, Any]:
    """Writes the records of a `TablesSpec`; returns the manifest.

    Raises:
        DataError: a file cannot be read or holds too many bad lines, or the output holds other
            data.
    """
    files = dict.fromkeys(t.file for t in _tables(spec))
    inputs = inputs_digest(input_dir, list(files))
    output = Partitions(output_dir, schema(spec), spec, lambda day: inputs)
    log = _Log(spec, input_dir)
    for day, rows in log.days():
        output.add(day, lambda details, rows=rows: log.blocks(rows))
    if not output.entries:
        raise DataError(f"{spec.impressions.file}: no impression lies within the days {spec.days}")
    return output.finish(
        rows_in={file: bad.lines for file, bad in log.reader.bad.items()},
        dropped_rows=log.reader.dropped,
        bad_lines={file: bad.to_dict() for file, bad in log.reader.bad.items()},
    )


def schema(spec: TablesSpec) -> DataStruct:
    """The schema of the records that a spec makes."""
    spaces = {name: spec.space(name) for name in spec.cat_feature if spec.space(name) != name}
    spaces |= {f"{name}_list": spec.space(name) for name in spec.behaviour}
    return DataStruct.from_dict(
        {
            "label": {"column": ["click"]},
            "auxiliary_info": {"column": ["user_id", "time"]},
            "cat_feature": {"column": spec.cat_feature},
            "dense_feature": {"column": spec.dense_feature},
            "sequence_feature": {
                "column": [f"{name}_list" for name in spec.behaviour],
                "max_len": spec.max_len,
            },
            "id_space": spaces,
        }
    )


def _tables(spec: TablesSpec) -> list[Any]:
    return [t for t in (spec.impressions, *spec.events, spec.users, spec.items) if t]


class _Log:
    """Everything in memory: ids of impressions, events and side tables, and who may see what."""

    def __init__(self, spec: TablesSpec, input_dir: str) -> None:
        self._spec = spec
        self.reader = TableReader(spec, input_dir)
        shown = spec.impressions
        self._users = self.reader.side_table(spec.users, spec.space(shown.user))
        self._items = self.reader.side_table(spec.items, spec.space(shown.item))
        self._shown = self.reader.impressions()
        past = [self.reader.events(table) for table in spec.events]
        past.append(_shown_before(self._shown))
        names = [name for name in spec.behaviour if name != shown.item]
        self._event_item = np.concatenate([table.keys["item"] for table in past])
        self._event_ids = {
            name: np.concatenate([t.ids.get(name, np.zeros(len(t), np.int64)) for t in past])
            for name in names
            if name not in self._items.ids
        }
        self._histories: Histories = point_in_time(
            np.concatenate([table.keys["user"] for table in past]),
            np.concatenate([table.keys["time"] for table in past]),
            self._shown.keys["user"],
            self._shown.keys["time"],
            spec.max_len,
        )

    def days(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every day with the positions of its impressions, in the order of the file."""
        day_of = self._shown.keys["day"]
        first, last = self._spec.days or ("00000000", "99999999")
        wanted = (day_of >= int(first)) & (day_of <= int(last))
        if not wanted.all():
            self.reader.dropped["impressions outside of days"] = int((~wanted).sum())
        for day in np.unique(day_of[wanted]):
            yield f"{day:08d}", np.flatnonzero(day_of == day)

    def blocks(self, rows: np.ndarray) -> Iterator[SampleColumns]:
        """The samples of some impressions, in blocks."""
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield self.samples(rows[start : start + _BLOCK_ROWS])

    def samples(self, rows: np.ndarray) -> SampleColumns:
        """The samples of some impressions."""
        spec, keys = self._spec, self._shown.keys
        user, item, time = keys["user"][rows], keys["item"][rows], keys["time"][rows]
        ids = {spec.impressions.user: user, spec.impressions.item: item}
        values = {}
        joined = [
            (self._shown, rows),
            (self._users, self._users.rows(user)),
            (self._items, self._items.rows(item)),
        ]
        for table, at in joined:
            ids |= {name: column[at] for name, column in table.ids.items()}
            values |= {name: column[at] for name, column in table.values.items()}
        return SampleColumns(
            label=keys["label"][rows],
            auxiliary_info=np.stack([user, time // _MS_PER_SECOND], axis=1),
            cat_feature=np.stack([ids[name] for name in spec.cat_feature], axis=1),
            dense_feature=_stack([values[name] for name in spec.dense_feature], len(rows)),
            sequences=self._behaviours(rows),
        )

    def _behaviours(self, rows: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        events, splits = self._histories.gather(rows)
        item = self._event_item[events]
        item_rows = self._items.rows(item)
        sequences = {}
        for name in self._spec.behaviour:
            if name == self._spec.impressions.item:
                ids = item
            elif name in self._items.ids:
                ids = self._items.ids[name][item_rows]
            else:
                ids = self._event_ids[name][events]
            sequences[f"{name}_list"] = (ids, splits)
        return sequences


def _shown_before(shown: Table) -> Table:
    """The impressions that become behaviours."""
    rows = np.flatnonzero(shown.keys["is_event"])
    keys = {name: shown.keys[name][rows] for name in ("user", "item", "time")}
    return Table(keys, {n: v[rows] for n, v in shown.ids.items()}, {}, shown.bad)


def _stack(dense: list[np.ndarray], rows: int) -> np.ndarray:
    return np.stack(dense, axis=1) if dense else np.zeros((rows, 0), np.float32)
