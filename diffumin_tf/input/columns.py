"""Records with a key for each column (`"layout": "columns"`), as Spark writes them."""

from collections.abc import Mapping

import tensorflow as tf

from diffumin_tf.config.schema import GROUPS, DataStruct
from diffumin_tf.input.fingerprint import text_ids
from diffumin_tf.input.raw_text import EXPONENT, LARGEST_WHOLE, MISSING, WHOLE

_TYPES = {"int64": tf.int64, "float": tf.float32, "bytes": tf.string}
ALL_OR_NONE = "training and metrics need a label in all records, predict in all or in none"
_LARGEST_FLOAT = 2**24  # whole numbers up to here are exact in float32

Features = Mapping[str, tf.train.Feature]


def parse_columns(
    schema: DataStruct, serialised: tf.Tensor, labelled: bool
) -> tuple[dict[str, tf.Tensor], list[tf.Tensor]]:
    """Parses serialised samples, strings [B], by the kinds of their columns.

    Returns:
        The tensors of `parsing.parse`, but `label` as it is stored, [B, 1]; and bools of any shape
        that are all true where every value is what its column takes.
    """
    groups = [g for g in (GROUPS if labelled else GROUPS[2:]) if getattr(schema, g)]
    single = dict.fromkeys(name for group in groups for name in getattr(schema, group))
    spec = {n: tf.io.RaggedFeature(_TYPES[schema.kinds[n]]) for n in (*single, *schema.ragged)}
    found = tf.io.parse_example(serialised, spec)
    sound = [found[name].row_lengths() <= 1 for name in single]
    if labelled and schema.label:
        sound.append(found[schema.label[0]].row_lengths() == 1)
    floats = [n for n in found if n in schema.categorical and schema.kinds[n] == "float"]
    sound += [_are_whole(found[name].values) for name in floats]
    raw = {}
    for group in groups:
        columns = [_value_of(schema, group, name, found[name]) for name in getattr(schema, group)]
        raw[group] = tf.concat([column.to_tensor(shape=[None, 1]) for column in columns], axis=1)
    raw |= {n: found[n].with_values(_ids(schema, n, found[n].values)) for n in schema.ragged}
    return raw, sound


def misfit_of_columns(schema: DataStruct, feature: Features) -> str | None:
    """Says which value of one sample is not what its column takes; None if all are."""
    single = [name for group in GROUPS for name in getattr(schema, group)]
    for name in (*single, *schema.ragged):
        stored = feature[name].WhichOneof("kind") if name in feature else None
        if stored is None and name in schema.label:
            return f"key {name!r}, the label, is missing; {ALL_OR_NONE}"
        if stored not in (None, f"{schema.kinds[name]}_list"):
            value = getattr(feature[name], stored).value[:1]
            return (
                f"key {name!r} holds a {stored} {list(value)} where other records or "
                f"{schema.source} say {schema.kinds[name]}_list; write one kind"
            )
        values = getattr(feature[name], stored).value if stored else []
        if name in schema.label and len(values) != 1 or name in single and len(values) > 1:
            return f"key {name!r} has {len(values)} values; {schema.source} wants 1"
        if name in schema.categorical and stored == "float_list":
            for value in values:
                if not _is_whole(value):
                    return (
                        f"key {name!r} holds the float {value!r}; ids as floats must be whole "
                        "numbers of 2^24 at most: write a text or an int64"
                    )
    return None


def _value_of(schema: DataStruct, group: str, name: str, found: tf.RaggedTensor) -> tf.RaggedTensor:
    values = found.values
    if group == "dense_feature":
        values = tf.cast(values, tf.float32)
    elif group == "cat_feature" or values.dtype == tf.string:
        values = _ids(schema, name, values)
    elif group == "auxiliary_info":
        values = tf.cast(tf.where(values == values, values, 0), tf.int64)  # NaN is no other value
    return found.with_values(values)


def _ids(schema: DataStruct, name: str, values: tf.Tensor) -> tf.Tensor:
    """int64 ids of values of any kind: a whole number is one id, however it is written."""
    if schema.hashed:
        return values
    if values.dtype == tf.float32:
        whole = tf.strings.as_string(tf.cast(values, tf.int64))
        texts = tf.where(tf.math.is_nan(values), "", whole)
    elif values.dtype == tf.int64:
        texts = tf.strings.as_string(values)
    else:
        texts = _with_plain_numbers(values)
    return text_ids(schema.id_space(name), texts)


def _with_plain_numbers(texts: tf.Tensor) -> tf.Tensor:
    """`raw_text.canonical` in a graph."""
    present = tf.where(tf.reduce_any([texts == word for word in MISSING], axis=0), "", texts)
    has_exponent = tf.strings.regex_full_match(present, EXPONENT)

    def written_out() -> tf.Tensor:
        numbers = tf.strings.to_number(tf.where(has_exponent, present, "0"), tf.float64)
        is_whole = has_exponent & (tf.floor(numbers) == numbers) & (tf.abs(numbers) < LARGEST_WHOLE)
        whole = tf.cast(tf.where(is_whole, numbers, 0), tf.int64)
        return tf.where(is_whole, tf.strings.as_string(whole), present)

    plain = tf.cond(tf.reduce_any(has_exponent), written_out, lambda: present)
    return tf.strings.regex_replace(plain, f"^{WHOLE}$", r"\1")


def _are_whole(values: tf.Tensor) -> tf.Tensor:
    """bool [n]: whether floats could be whole numbers that nothing was rounded off."""
    whole = (tf.abs(values) <= _LARGEST_FLOAT) & (tf.round(values) == values)
    return whole | tf.math.is_nan(values)


def _is_whole(value: float) -> bool:
    return value != value or abs(value) <= _LARGEST_FLOAT and value == round(value)
