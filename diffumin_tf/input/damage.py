"""Reading on past damage: one clear error, or bad records left out and counted."""

import contextlib
import hashlib
import posixpath
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence

import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.files import is_disk_full
from diffumin_tf.input.faults import (
    DAMAGE,
    BadRecord,
    examine,
    find_fault,
    lost_files_named,
    plain_text,
    soundness,
)
from diffumin_tf.input.parsing import GAPS, LEFT_OUT, compression_of

_NAMED = 3  # bad records that the error about too many of them names


class Repairs:
    """Copies of damaged files without their bad records, and how many those are.

    Reading the copies gives the batches that reading the originals gave before it failed, whether
    shuffled or not. It stops at damaged bytes before anything behind them is seen, so these are
    simply gone from the copy. A whole record that does not fit the schema may lie in the shuffle
    buffer, or have been left out unparsed, before it is noticed: its place is kept, and batches
    are smaller by it.

    The copies stay in `folder` for as long as they are read; the originals are left alone.

    Args:
        folder: where the copies go; made when the first one is.
        schema: columns of a record.
        max_bad_records: bad records that may be left out, over all files; 0 allows none.
        report: takes a line for each.
    """

    def __init__(
        self, folder: str, schema: DataStruct, max_bad_records: int, report: Callable[[str], None]
    ) -> None:
        self._folder = folder
        self._schema = schema
        self._limit = max_bad_records
        self._report = report
        self._sound = soundness(schema)
        self._found_sound: set[str] = set()
        self._copies: dict[str, str] = {}
        self._bad: list[BadRecord] = []

    @property
    def bad_records(self) -> tuple[BadRecord, ...]:
        """What was left out so far."""
        return tuple(self._bad)

    def files(self, files: Sequence[str]) -> list[str]:
        """The files, with the copies in place of those that were mended."""
        return [self._copies.get(file, file) for file in files]

    def mend(self, files: Sequence[str], afresh: bool = False) -> bool:
        """Looks for damage among files and writes copies without it.

        Args:
            files: part files, originals.
            afresh: whether files that were sound before are looked at again.

        Returns:
            Whether there was damage that was not known before.

        Raises:
            DataError: there are more bad records than `max_bad_records`, a file is gone, or the
                disk is full.
        """
        found = False
        for file in files:
            if file in self._copies or (file in self._found_sound and not afresh):
                continue
            if self._sound(file):
                self._found_sound.add(file)
                continue
            if not self._limit:
                raise DataError(str(find_fault([file], self._schema)))
            found = True
            try:
                with lost_files_named():
                    self._mend_one(file)
            except (OSError, tf.errors.OpError) as error:
                if not is_disk_full(error):
                    raise
                raise DataError(
                    f"{self._folder}: no space left on the disk for a copy of {file} without its "
                    "bad records"
                ) from None
        return found

    def _mend_one(self, file: str) -> None:
        # Days have files of the same name; the hash tells them apart.
        name = hashlib.sha256(file.encode()).hexdigest()[:16] + "-" + posixpath.basename(file)
        # Workers may share the folder: each writes a file of its own, and any of them will do.
        staged = posixpath.join(self._folder, f".{uuid.uuid4().hex}-{name}")
        tf.io.gfile.makedirs(self._folder)
        try:
            with tf.io.TFRecordWriter(staged, compression_of(file) or None) as writer:
                gaps = self._copy_good(file, writer)
            copy = posixpath.join(self._folder, f"{GAPS if gaps else ''}{name}")
            tf.io.gfile.rename(staged, copy, overwrite=True)
        except BaseException:
            with contextlib.suppress(tf.errors.OpError):
                tf.io.gfile.remove(staged)
            raise
        self._copies[file] = copy

    def _copy_good(self, file: str, writer: tf.io.TFRecordWriter) -> bool:
        """Copies the good records; says whether it left gaps."""
        gaps = False
        for record in examine(file, self._schema):
            if not isinstance(record, BadRecord):
                writer.write(record)
                continue
            self._count(record)
            if not record.torn:
                writer.write(LEFT_OUT)
                gaps = True
        return gaps

    def _count(self, bad: BadRecord) -> None:
        self._bad.append(bad)
        count = len(self._bad)
        if not self._limit:
            raise DataError(str(bad))
        if count > self._limit:
            first = "; ".join(map(str, self._bad[:_NAMED]))
            raise DataError(
                f"more than max_bad_records {self._limit} bad records: {first}"
                f"{'; …' if count > _NAMED else ''}"
            )
        self._report(f"bad record {count} of at most {self._limit} left out: {bad}")


def resilient(
    make: Callable[[list[str], int], Iterable],
    files: Sequence[str],
    repairs: Repairs,
    skip: int = 0,
    own: Sequence[str] | None = None,
) -> Iterator:
    """Iterates batches, and where reading fails mends the files and goes on from the same place.

    Batches before the damage are the same with it and without it, so that no sample comes twice
    and none but the bad ones is lost. A batch of nothing but records that do not fit is empty.

    Args:
        make: (files, skip) → the batches of those files without the first `skip` of them; one
            item a global batch.
        files: part files.
        repairs: what is known of damage, and how much of it is allowed.
        skip: batches to leave out at the start.
        own: those of the files that `make` reads, where it does not read all of them.

    Raises:
        DataError: a file is gone, there is more damage than allowed, or no record at all.
    """
    done, iterator = skip, None
    while True:
        try:
            with lost_files_named():
                if iterator is None:
                    iterator = iter(make(repairs.files(files), done))
                batch = next(iterator)
        except StopIteration:
            break
        except DAMAGE as error:
            if not repairs.mend(files if own is None else own, afresh=True):
                raise DataError(plain_text(error)) from None
            iterator = None
            continue
        done += 1
        yield batch
    if not done:
        raise _no_record(files)


def _no_record(files: Sequence[str]) -> DataError:
    return DataError(f"{files[0]}{' …' if len(files) > 1 else ''}: no record in {len(files)} files")
