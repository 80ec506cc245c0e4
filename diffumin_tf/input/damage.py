"""Damaged record files: one error that names file and place, or the rest of a file left out."""

import contextlib
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from diffumin_tf.config.schema import NEWER, DataStruct
from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.files import read_json
from diffumin_tf.input.chunks import whole
from diffumin_tf.input.parsing import compression_of, misfit, parse
from diffumin_tf.input.records import SUCCESS_FILE
from diffumin_tf.input.splits import parts_of

# How tf.data reports a record whose bytes are damaged, or that does not fit the schema. The message
# may quote the record, whose bytes need not be UTF-8.
DAMAGE = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, UnicodeError)
# How a file shows that it is gone, or closed to us.
LOST = (
    tf.errors.NotFoundError,
    tf.errors.PermissionDeniedError,
    FileNotFoundError,
    PermissionError,
)

_BATCHES = (1024, 32, 1)  # a failure is looked for in ever smaller ones
# A record on disk: length (uint64), checksum of the length, data, checksum of the data.
_LENGTH_BYTES, _FRAME_BYTES = 8, 16
_GZIP = b"\x1f\x8b"
_LOCAL_PIECE_BYTES, _REMOTE_PIECE_BYTES = 1 << 13, 1 << 22


class FileCheck:
    """Checks record files before they are read, and explains a failure while they are read.

    Without a limit only the record lengths of plain files are checked, because TensorFlow's reader
    allocates what a length asks for. With a limit every file is read through once, and a damaged
    one is cut before its first bad record. So the records before it stay in their places.

    Args:
        max_bad_records: records that may be left out, over all files; 0 allows none.

    Attributes:
        cuts: how many records to read of each damaged file.
    """

    def __init__(
        self, schema: DataStruct, max_bad_records: int = 0, report: Callable[[str], None] = print
    ) -> None:
        self.cuts: dict[str, int] = {}
        self._schema = schema
        self._limit = max_bad_records
        self._report = report
        self._usable: dict[str, int] = {}  # records of each file, counted where there is a limit
        self._grouped: set[str] = set()  # files that begin with a record of several impressions
        self._left_out: dict[str, int] = {}  # records, by folder

    def look(self, files: Sequence[str]) -> None:
        """Checks the files that were not checked before.

        Raises:
            DataError: a file is gone or damaged, or more records than allowed would be left out.
        """
        damages = {}
        for file in files:
            if file in self._usable:
                continue
            count, damage = 0, ""
            with lost_files_named():
                if self._limit or frames(file)[1]:
                    count, damage = look_through(file, self._schema)
                # A damaged length must not reach TensorFlow's reader.
                if (count or not damage) and self._begins_grouped(file):
                    self._grouped.add(file)
            if damage and not self._limit:
                raise DataError(damage)
            self._usable[file] = count
            if damage:
                damages[file] = damage
        for file, damage in damages.items():
            self.cuts[file] = self._usable[file]
            self._report(f"{damage}; the rest of the file is left out")
        for folder in dict.fromkeys(map(posixpath.dirname, damages)):
            self._count(folder)

    def grouped(self, files: Sequence[str]) -> bool:
        """Whether one of the files begins with a record that may be of several impressions."""
        self.look(files)
        return not self._grouped.isdisjoint(files)

    def read(self, batches: Iterable, files: Sequence[str], skipped: int = 0) -> Iterator:
        """Iterates the batches of some files; a failure becomes an error that names its place.

        Args:
            files: what `batches` was made of, in the order in which they are read.
            skipped: batches that were left out at the start.

        Raises:
            DataError: a file is gone or damaged, or there is no record at all.
        """
        empty, failure = not skipped, None
        try:
            with lost_files_named():
                for batch in batches:
                    empty = False
                    yield batch
        except DAMAGE as error:
            failure = plain_text(error)
        # Outside of the block above, so that no error keeps the iterator and its threads alive.
        if failure is not None:
            raise DataError(self.first_damage(files) or failure)
        if empty:
            more = " …" if len(files) > 1 else ""
            raise DataError(f"{files[0]}{more}: no record in {len(files)} files")

    def first_damage(self, files: Sequence[str]) -> str:
        """Says file and place of the first damage in what is read of some files; "" without one."""
        grouped = not self._grouped.isdisjoint(files)
        with lost_files_named():
            for file in files:
                _, damage = look_through(file, self._schema, self.cuts.get(file, -1), grouped)
                if damage:
                    return damage
        return ""

    def _begins_grouped(self, file: str) -> bool:
        """Looks at the first record; read as an Example, a SequenceExample has empty histories."""
        try:
            first = tf.data.TFRecordDataset(file, compression_of(file)).take(1).as_numpy_iterator()
            record = next(first, b"")
            sequence = tf.train.SequenceExample.FromString(record)
            feature = tf.train.Example.FromString(record).features.feature
        except Exception:  # what is damaged, or no proto, is named where it is read
            return False
        if lists := sorted(sequence.feature_lists.feature_list):
            raise DataError(
                f"{file}: record 0: a tf.train.SequenceExample, whose feature_lists {lists} would "
                "not be read; write a tf.train.Example, with the histories among its features"
            )
        return self._schema.layout == "groups" and NEWER in feature

    def _count(self, folder: str) -> None:
        """Counts what the cuts in one folder leave out."""
        cuts = {file: n for file, n in self.cuts.items() if posixpath.dirname(file) == folder}
        try:
            entry = read_json(posixpath.join(folder, SUCCESS_FILE))["entry"]
            records = entry.get("records", entry["examples"])
            usable = sum(self._usable[part] for part in parts_of(folder))
            count = max(records - usable, len(cuts))
            line = f"{folder}: {count} of {records} records left out"
        except (ConfigError, KeyError, TypeError, AttributeError):
            count = sum(max(frames(file)[0] - n, 1) for file, n in cuts.items())
            unknown = f"({SUCCESS_FILE} would say how many)"
            line = f"{folder}: at least {count} records left out {unknown}"
        self._left_out[folder] = count
        total = sum(self._left_out.values())
        if total > self._limit:
            raise DataError(f"{line}; {total} in all are more than max_bad_records {self._limit}")
        self._report(line)


def frames(file: str) -> tuple[int, str]:
    """Goes through a plain file from length to length, without a look at data and checksums.

    For a zipped file there is no need: the reader never allocates more than it inflates.

    Returns:
        Number of records that fit into the file (-1 if it is zipped), and why the next one does not
        fit (empty if all do).
    """
    if compression_of(file):
        return -1, ""
    size = tf.io.gfile.stat(file).length
    piece, start, offset, count = b"", 0, 0, 0
    # Python's own files seek without a cost; those of `tf.io.gfile` fill half a megabyte each time.
    is_remote = "://" in file
    opened = tf.io.gfile.GFile(file, "rb") if is_remote else open(file, "rb", buffering=0)
    piece_bytes = _REMOTE_PIECE_BYTES if is_remote else _LOCAL_PIECE_BYTES
    with opened as source:
        while offset < size:
            if offset + _LENGTH_BYTES > start + len(piece):
                source.seek(offset)
                piece, start = source.read(piece_bytes), offset
            field = piece[offset - start : offset - start + _LENGTH_BYTES]
            needed, left = _FRAME_BYTES + int.from_bytes(field, "little"), size - offset
            if needed > left:
                zipped = (
                    "; it begins as a gzip file: name it .gz"
                    if not count and piece[:2] == _GZIP
                    else ""
                )
                return count, f"{left:,} bytes are left, but the next one takes {needed:,}{zipped}"
            offset += needed
            count += 1
    return count, ""


def look_through(
    file: str, schema: DataStruct, records: int = -1, grouped: bool = True
) -> tuple[int, str]:
    """Reads a file up to its end or its first bad record, by the reader and parser of training.

    Args:
        grouped: whether records may be of several impressions.

    Returns:
        How many of the first `records` (-1: of all) can be used; a message that names the file and
        says what is wrong with the next one, "" where nothing is.
    """
    records, reason = (records, "") if records >= 0 else frames(file)
    in_groups = grouped and schema.layout == "groups"
    serialised = tf.data.TFRecordDataset(file, compression_of(file)).take(records)
    count = 0
    for size in _BATCHES:
        failure, is_torn = None, False
        try:
            for batch in serialised.skip(count).batch(size):
                parse(schema, whole(batch) if in_groups else batch)
                count += len(batch)
        except DAMAGE as error:
            failure, is_torn = plain_text(error), isinstance(error, tf.errors.DataLossError)
        if failure is None:
            break
    if failure is not None and not is_torn:
        (record,) = serialised.skip(count).take(1).as_numpy_iterator()
        reason = misfit(schema, record, grouped) or failure
        return count, f"{file}: record {count}: {reason}"
    reason = failure or reason
    if reason:
        reason = f"{file}: torn or damaged after {count} records: {reason}"
    return count, reason


@contextlib.contextmanager
def lost_files_named() -> Iterator[None]:
    """Turns what TensorFlow says of a file that is gone, or closed to us, into a `DataError`."""
    try:
        yield
    except LOST as error:
        raise DataError(f"cannot be read: {plain_text(error)}") from None


def plain_text(error: Exception) -> str:
    """The message of an error without TensorFlow's op names and graph locations around it."""
    text = getattr(error, "message", None) or str(error)
    text = text.partition("\n\t [[")[0].partition(" [Op:")[0]
    text = re.sub(r"\{\{.*?\}\} ?", "", text).strip().rpartition("\n")[2]
    return re.sub(r"^Error in user-defined function .* with iterator: \S+: ", "", text)
