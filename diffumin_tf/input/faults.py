"""What is wrong with which record of which file."""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input.framing import frames
from diffumin_tf.input.parsing import compression_of, parse

# How tf.data tells of a record whose bytes are damaged, or that does not fit the schema. It may
# quote the record, whose bytes need be no UTF-8.
DAMAGE = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeError)
_BATCH = 256


class BadRecord(NamedTuple):
    """A record that cannot be used.

    Attributes:
        file: where it lies.
        number: how many records lie before it.
        reason: what is wrong.
        torn: whether its bytes are damaged; otherwise they are whole but do not fit the schema.
    """

    file: str
    number: int
    reason: str
    torn: bool

    def __str__(self) -> str:
        if self.torn:
            return f"{self.file}: torn or damaged after {self.number} records: {self.reason}"
        return f"{self.file}: record {self.number}: {self.reason}"


@contextlib.contextmanager
def lost_files_named() -> Iterator[None]:
    """Turns what TensorFlow says of a file that is gone, or closed to us, into a `DataError`."""
    try:
        yield
    except (tf.errors.NotFoundError, tf.errors.PermissionDeniedError) as error:
        raise DataError(f"cannot be read: {plain_text(error)}") from None


def plain_text(error: Exception) -> str:
    """The message of an error without TensorFlow's op names and graph locations around it."""
    text = getattr(error, "message", None) or str(error)
    text = text.partition("\n\t [[")[0].partition(" [Op:")[0]
    text = re.sub(r"\{\{.*?\}\} ?", "", text).strip().rpartition("\n")[2]
    return re.sub(r"^Error in user-defined function .* with iterator: \S+: ", "", text)


def find_fault(files: Iterable[str], schema: DataStruct) -> BadRecord | None:
    """The first record that is damaged or does not fit the schema; None if there is none.

    Raises:
        DataError: a file is gone.
    """
    sound = soundness(schema)
    for file in files:
        if not sound(file):
            for record in examine(file, schema):
                if isinstance(record, BadRecord):
                    return record
    return None


def soundness(schema: DataStruct) -> Callable[[str], bool]:
    """A quick test of files: true where every record can be used.

    The test raises a `DataError` where a file is gone.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)] * 2)
    def read(file: tf.Tensor, compression: tf.Tensor) -> tf.Tensor:
        sizes = (
            tf.data.TFRecordDataset(file, compression)
            .batch(_BATCH)
            .map(lambda batch: tf.size(parse(schema, batch)["label"]), tf.data.AUTOTUNE)
        )
        return sizes.reduce(0, lambda total, size: total + size)

    def sound(file: str) -> bool:
        try:
            with lost_files_named():
                read(file, compression_of(file))
        except DAMAGE:
            return False
        return True

    return sound


def examine(file: str, schema: DataStruct) -> Iterator[bytes | BadRecord]:
    """A file's records in order; in the place of each that cannot be used, what is wrong.

    A record whose data are damaged counts as one, and so does all that is lost where a length or a
    zipped stream is damaged, or where the file ends within a record.
    """
    number = 0
    for group in _grouped(frames(file)):
        whole = [data for data in group if isinstance(data, bytes)]
        fit = _misfit(schema, whole) is None
        for data in group:
            if isinstance(data, str):
                yield BadRecord(file, number, data, torn=True)
            elif not fit and (reason := _misfit(schema, [data])):
                yield BadRecord(file, number, record_fault(schema, data) or reason, torn=False)
            else:
                yield data
            number += 1


def _grouped(records: Iterable) -> Iterator[list]:
    group = []
    for record in records:
        group.append(record)
        if len(group) == _BATCH:
            yield group
            group = []
    yield group


def _misfit(schema: DataStruct, serialised: list[bytes]) -> str | None:
    """Why the parser that training uses does not take some records; None if it does."""
    try:
        parse(schema, tf.constant(serialised, tf.string))
    except DAMAGE as error:
        return plain_text(error)
    return None


def record_fault(schema: DataStruct, serialised: bytes) -> str | None:
    """Says how one serialised sample differs from the schema; None if it fits."""
    example = tf.train.Example()
    try:
        example.ParseFromString(serialised)
    except Exception as error:  # the protobuf runtime in use decides on the class
        return f"no tf.train.Example: {error}"
    kinds = {"dense_feature": "float_list"}
    for group in ("label", "auxiliary_info", "cat_feature", "dense_feature"):
        expected = len(getattr(schema, group))
        if not expected:
            continue
        kind = kinds.get(group, "int64_list")
        if group not in example.features.feature:
            return f"key {group!r} is missing; {schema.source} wants {expected} values"
        feature = example.features.feature[group]
        found = len(getattr(feature, kind).value)
        if found != expected:
            held = feature.WhichOneof("kind") or "nothing"
            return (
                f"key {group!r} has {found} {kind} values (it holds a {held}); "
                f"{schema.source} wants {expected}"
            )
    for name in schema.variable_sequences:
        held = example.features.feature[name].WhichOneof("kind")
        if held not in (None, "int64_list"):
            return f"key {name!r} holds a {held}; {schema.source} wants an int64_list"
    return None
