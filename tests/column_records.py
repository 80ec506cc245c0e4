"""The samples of the small experiment as other tools write them: a record key for each column."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input import records
from diffumin_tf.input.fingerprint import fingerprint
from tests.small_log import SCHEMA, samples, write_experiment

COLUMNS = {**SCHEMA, "layout": "columns"}
# How each column is written; floats and texts among whole numbers.
KINDS = {
    "user": "{}".format,
    "item": int,
    "category": float,
    "hour": "{}.0".format,
    "click": float,
    "item_list": "{}".format,
    "category_list": float,
    "price": float,
}


def example_of(row: dict) -> bytes:
    """A serialised sample of values, or lists of them, by key; None is left out, as by Spark."""
    example = tf.train.Example()
    for key, values in row.items():
        if values is None:
            continue
        values = values if isinstance(values, list) else [values]
        feature = example.features.feature[key]
        if any(isinstance(value, str) for value in values):
            feature.bytes_list.value.extend(value.encode() for value in values)
        elif any(isinstance(value, float) for value in values):
            feature.float_list.value.extend(values)
        elif values:
            feature.int64_list.value.extend(values)
    return example.SerializeToString()


def rows_of(schema: DataStruct, data: records.SampleColumns, kinds=None) -> list[dict]:
    """Rows of raw values as `kinds` writes them; 0 is a missing value."""
    kinds, rows = {**KINDS, **(kinds or {})}, []
    for n in range(len(data)):
        row = dict(zip(schema.cat_feature, data.cat_feature[n].tolist(), strict=True))
        row = {name: value or None for name, value in row.items()}
        row |= dict(zip(schema.dense_feature, data.dense_feature[n].tolist(), strict=True))
        row |= {"click": int(data.label[n]), "user_id": int(data.auxiliary_info[n, 0])}
        for name, (ids, splits) in data.sequences.items():
            row[name] = ids[splits[n] : splits[n + 1]].tolist()
        for name, write in kinds.items():
            value = row[name]
            if isinstance(value, list):
                row[name] = [write(one) for one in value]
            elif value is not None:
                row[name] = write(value)
        rows.append(row)
    return rows


def fingerprinted(schema: DataStruct, data: records.SampleColumns) -> records.SampleColumns:
    """The same samples as `prepare` would write their ids."""

    def ids(name, raw):
        return fingerprint(schema.id_space(name), np.where(raw, raw.astype(str), ""))

    columns = zip(schema.cat_feature, data.cat_feature.T, strict=True)
    return records.SampleColumns(
        data.label,
        data.auxiliary_info,
        np.stack([ids(name, raw) for name, raw in columns], axis=1),
        data.dense_feature,
        {name: (ids(name, raw), splits) for name, (raw, splits) in data.sequences.items()},
    )


def write_column_experiment(folder: pathlib.Path, per_day: int = 160, **changes) -> pathlib.Path:
    """As `write_experiment`, with records of the layout `columns` in folders of Hive's form."""
    exp = write_experiment(folder, per_day, **changes)
    schema = DataStruct.from_dict(COLUMNS)
    (exp / "data_struct.json").write_text(json.dumps(COLUMNS))
    for number in range(4):
        day = folder / "data" / f"2024010{number + 1}"
        for part in day.glob("part-*"):
            part.unlink()
        with records.PartWriter(str(day), parts=2) as writer:
            writer.write(map(example_of, rows_of(schema, samples(per_day, seed=number))))
        day.rename(day.parent / f"dt=2024-01-0{number + 1}")
    return exp
