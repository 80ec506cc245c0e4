"""The adapter `tables`: a log of impressions + events + side tables → day partitions."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.records import SampleColumns
from diffumin_tf.prepare.histories import point_in_time
from diffumin_tf.prepare.joined_tables import TableReader
from diffumin_tf.prepare.partitions import Partitions, inputs_digest
from diffumin_tf.prepare.spec import TablesSpec

_BLOCK_ROWS = 8192


def prepare_tables(spec: TablesSpec, input_dir: str, output_dir: str) -> dict[str, Any]:
    """Writes the records of a `TablesSpec`; returns the manifest."""
    tables = [t for t in (spec.impressions, *spec.events, spec.users, spec.items) if t]
    inputs = inputs_digest(input_dir, list(dict.fromkeys(table.file for table in tables)))
    output = Partitions(output_dir, _schema(spec), spec, lambda day: inputs)
    log = _Log(spec, input_dir)
    for day, indices in log.days():
        blocks = np.split(indices, range(_BLOCK_ROWS, len(indices), _BLOCK_ROWS))
        output.add(day, lambda details, blocks=blocks: map(log.samples, blocks))
    if not output.entries:
        raise DataError(f"{spec.impressions.file}: no impression lies within the days {spec.days}")
    return output.finish(
        rows_in={file: bad.lines for file, bad in log.reader.bad.items()},
        dropped_rows=log.reader.dropped,
        bad_lines={file: bad.to_dict() for file, bad in log.reader.bad.items()},
    )


def _schema(spec: TablesSpec) -> DataStruct:
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


class _Log:
    """Everything in memory: ids of impressions, events and side tables, and who may see what."""

    def __init__(self, spec: TablesSpec, input_dir: str) -> None:
        self._spec = spec
        self.reader = TableReader(spec, input_dir)
        self._users = self.reader.side_table(spec.users, spec.space(spec.impressions.user))
        self._items = self.reader.side_table(spec.items, spec.space(spec.impressions.item))
        self._shown = self.reader.impressions()
        past = [self.reader.events(table) for table in spec.events]
        past.append(self._shown.rows(np.flatnonzero(self._shown.keys["is_event"])))
        keys = pd.concat([t.keys[["user", "item", "time"]] for t in past], ignore_index=True)
        fields = [name for name in spec.behaviour if any(name in table.ids for table in past)]
        self._event_ids = pd.concat(
            [table.ids.reindex(columns=fields, fill_value=0) for table in past], ignore_index=True
        ).assign(**{spec.impressions.item: keys["item"]})
        self._histories = point_in_time(keys, self._shown.keys, spec.max_len)

    def days(self) -> Iterator[tuple[str, np.ndarray]]:
        """Every day with the indices of its impressions, in the order of the file."""
        day_of = self._shown.keys["day"].to_numpy()
        first, last = map(int, self._spec.days or ("00000000", "99999999"))
        wanted = (day_of >= first) & (day_of <= last)
        if not wanted.all():
            self.reader.dropped["impressions outside of days"] = int((~wanted).sum())
        for day in np.unique(day_of[wanted]):
            yield f"{day:08d}", np.flatnonzero(day_of == day)

    def samples(self, indices: np.ndarray) -> SampleColumns:
        spec, shown = self._spec, self._shown.rows(indices)
        user, item = shown.keys["user"], shown.keys["item"]
        ids = {spec.impressions.user: user, spec.impressions.item: item}
        values: dict[str, pd.Series] = {}
        for table in (shown, self._users.of(user), self._items.of(item)):
            ids.update(table.ids)
            values.update(table.values)
        dense = [values[name] for name in spec.dense_feature]
        events, splits = self._histories.gather(indices)
        past = dict(self._event_ids.iloc[events])
        past.update(self._items.of(past[spec.impressions.item]).ids)
        return SampleColumns(
            label=shown.keys["label"].to_numpy(),
            auxiliary_info=np.stack([user, shown.keys["time"] // 1000], axis=1),
            cat_feature=np.stack([ids[name] for name in spec.cat_feature], axis=1),
            dense_feature=np.reshape(dense, [len(dense), len(user)]).T.astype(np.float32),
            sequences={f"{n}_list": (past[n].to_numpy(), splits) for n in spec.behaviour},
        )
