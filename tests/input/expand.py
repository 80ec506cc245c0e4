"""Records of several impressions written out, value by value, as records of one."""

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct


def expand(schema: DataStruct, serialised: bytes) -> list[bytes]:
    """The impressions of a record, each as a serialised record of one; itself where it is one."""
    keys = tf.train.Example.FromString(serialised).features.feature
    if "newer" not in keys:
        return [serialised]
    values = {name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in keys.items()}
    return [_impression(schema, values, i) for i in range(len(values["newer"]))]


def expand_all(schema: DataStruct, records) -> list[bytes]:
    """The impressions of records, one after the other."""
    return [impression for record in records for impression in expand(schema, record)]


def _impression(schema: DataStruct, values: dict[str, list], i: int) -> bytes:
    example = tf.train.Example()

    def put(name, kind, found):
        getattr(example.features.feature[name], kind).value.extend(found)

    put("label", "int64_list", [values["label"][i]])
    for group in ("auxiliary_info", "cat_feature", "dense_feature"):
        if columns := getattr(schema, group):
            kind = "float_list" if group == "dense_feature" else "int64_list"
            put(group, kind, _row(columns, schema.stored_once, values[group], i))
    for name in schema.variable_sequences:
        newer = values["newer"][i]
        put(name, "int64_list", values[name][newer : newer + schema.sequences[name].max_len])
    for name in schema.multi_feature:
        first, stop = 0, len(values[name])
        if name not in schema.stored_once:
            counts = values[f"{name}_count"]
            first = sum(counts[:i])
            stop = first + counts[i] if i < len(counts) else stop
        put(name, "int64_list", values[name][first:stop])
    return example.SerializeToString(deterministic=True)


def _row(columns, once, values, i):
    """The row of impression i: of the first all is written, of the others what is not shared."""
    if i == 0:
        return values[: len(columns)]
    others = [column for column in columns if column not in once]
    begin = len(columns) + (i - 1) * len(others)
    own = dict(zip(others, values[begin : begin + len(others)], strict=True))
    shared = dict(zip(columns, values, strict=False))
    return [own.get(column, shared[column]) for column in columns]
