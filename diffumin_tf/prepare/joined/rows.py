"""The rows of one file of the joined form → samples, a piece that fits the memory at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from diffumin_tf.errors import DataError, did_you_mean_of
from diffumin_tf.input.records import SampleColumns
from diffumin_tf.prepare import values
from diffumin_tf.prepare.files import SourceFile
from diffumin_tf.prepare.joined.piece import Piece, grouped, in_order
from diffumin_tf.prepare.spec.joined import JoinedSpec
from diffumin_tf.prepare.times import DAY_MS, FIRST_YEAR, HOUR_MS, LAST_YEAR, UNIT_MS

NEWER, ORDER = "newer", "order"  # columns of the impressions
_PIECE_VALUES = 1_000_000  # of the longest column
_MOST_ROWS = 8192
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

_Index = np.ndarray | slice  # the entry of a column that a sample has


def pieces(spec: JoinedSpec, file: SourceFile) -> Iterator[Piece]:
    """Reads a Parquet file; all of it in one piece when each sample has a place in its order.

    Raises:
        DataError: says file, row, column and value of what is wrong.
    """
    try:
        with file.open() as source:
            found = _pieces(spec, source, file)
            for piece in found:
                yield piece if piece.order is None else in_order([piece, *found])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path}: cannot be read: {error}") from None


def first_piece(spec: JoinedSpec, file: SourceFile) -> Piece | None:
    """The first samples of a file, in the order of its rows; errors as of `pieces`."""
    try:
        with file.open() as source:
            return next(_pieces(spec, source, file), None)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path}: cannot be read: {error}") from None


def shown_columns(spec: JoinedSpec, file: SourceFile) -> list[str]:
    """The columns of a file that lie within its impressions; [] where it has none."""
    try:
        with file.open() as source:
            columns = pq.read_schema(source)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path}: cannot be read: {error}") from None
    if spec.impressions not in columns.names:
        return []
    kind = columns.field(spec.impressions).type
    return [field.name for field in kind.value_type] if _is_list_of_structs(kind) else []


def local_days(time_ms: np.ndarray, utc_offset_hours: float) -> np.ndarray:
    """The local day, yyyymmdd as int64 [n], of times [n] in ms since 1970."""
    local = time_ms + round(utc_offset_hours * HOUR_MS)
    distinct, place = np.unique(local // DAY_MS, return_inverse=True)
    texts = np.datetime_as_string(distinct.astype("datetime64[D]"))
    return np.array([int(text.replace("-", "")) for text in texts])[place]


def _pieces(spec: JoinedSpec, source: pa.NativeFile, file: SourceFile) -> Iterator[Piece]:
    parquet = pq.ParquetFile(source)
    names, there = _columns(spec), [*parquet.schema_arrow.names, *file.keys]
    of_rows = [spec.impressions, spec.user, *(f"{field}_list" for field in spec.behaviour)]
    for name in of_rows if spec.impressions else names:
        if name not in there:
            near = did_you_mean_of(name, there)
            rows = '; is a row an impression? Then set "impressions": null'
            advice = rows if name == spec.impressions else ""
            raise DataError(f"{file.path}: no column {name!r}{near}{advice}")
    read, total = 0, parquet.metadata.num_rows
    for batch in parquet.iter_batches(_batch_rows(parquet, names), columns=names):
        keys = file.keys.items()
        columns = {key: pa.repeat(pa.scalar(v, pa.string()), len(batch)) for key, v in keys}
        columns |= dict(zip(batch.schema.names, batch.columns, strict=True))
        rows = _Rows(spec, file.path, columns, read, there)
        read += len(batch)
        if len(rows):
            yield rows.piece(file.size * len(batch) / total)


def _columns(spec: JoinedSpec) -> list[str]:
    """The columns that a spec reads."""
    names = [spec.impressions, spec.user, spec.label.column, spec.time, spec.day]
    names += [*spec.cat_feature, *spec.dense_feature, *spec.multi_feature]
    names += [f"{name}_list" for name in spec.behaviour]
    return list(dict.fromkeys(filter(None, names)))


def _batch_rows(file: pq.ParquetFile, names: Sequence[str]) -> int:
    """How many rows hold about `_PIECE_VALUES` values of the column with the longest lists."""
    leaves = [file.schema.column(i).path for i in range(len(file.schema))]
    read = [i for i, path in enumerate(leaves) if path.split(".")[0] in names]
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    most = max((group.column(i).num_values for group in groups for i in read), default=1)
    rows = max((group.num_rows for group in groups), default=1)
    return max(1, min(_MOST_ROWS, _PIECE_VALUES * rows // max(most, 1)))


class _Rows:
    """Some rows of a file, and the samples in them.

    Args:
        columns: of the rows, by name.
        first: number of the first row within the file.
        of_file: the names of all columns, for hints.
    """

    def __init__(
        self,
        spec: JoinedSpec,
        file: str,
        columns: dict[str, pa.Array],
        first: int,
        of_file: Sequence[str],
    ) -> None:
        self._spec, self._file, self._columns, self._first = spec, file, columns, first
        self._of_file = of_file
        self._shown: dict[str, pa.Array] = {}
        if spec.impressions is None:
            self._row: np.ndarray = np.arange(len(columns[spec.user]))
            return
        lists = columns[spec.impressions]
        if not _is_list_of_structs(lists.type):
            raise DataError(f"{file}: {spec.impressions} must be a list of structs: {lists.type}")
        self._row = pc.list_parent_indices(lists).to_numpy().astype(np.int64)
        structs = pc.list_flatten(lists)
        self._refuse(structs.is_null().to_numpy(False), spec.impressions, None, "is no impression")
        for field in structs.type:
            self._shown[field.name] = pc.struct_field(structs, field.name)

    def __len__(self) -> int:
        return len(self._row)

    def piece(self, read_bytes: float) -> Piece:
        spec = self._spec
        time_ms = self._time()
        user = self._ids(spec.user)
        self._refuse(user == 0, spec.user, spec.user, "is missing")
        columns = SampleColumns(
            label=self._label(),
            auxiliary_info=np.stack([user, time_ms // 1000], axis=1),
            cat_feature=np.stack([self._ids(name) for name in spec.cat_feature], axis=1),
            dense_feature=self._dense(),
            sequences=self._histories(),
            multi={name: self._several(name) for name in spec.multi_feature},
        )
        order = self._whole(ORDER, "must be a whole number") if ORDER in self._shown else None
        piece = Piece(columns, self._days(time_ms), order, frozenset(self._shown), read_bytes)
        return grouped(piece, self._row) if spec.group == "user_day" else piece

    def _find(self, name: str, fits: Callable, what: str) -> tuple[pa.Array, _Index]:
        """A column, and the entry of it that each sample has."""
        if name in self._shown and name in self._columns:
            raise DataError(
                f"{self._file}: column {name!r} stands in {self._spec.impressions!r} and beside it"
            )
        known = self._shown | self._columns
        if name not in known:
            near = did_you_mean_of(name, [*self._shown, *self._of_file])
            raise DataError(f"{self._file}: no column {name!r}{near}")
        if not fits(known[name].type):
            kind = known[name].type
            raise DataError(f"{self._file}: column {name!r} must hold {what}, not {kind}")
        return known[name], slice(None) if name in self._shown else self._row

    def _refuse(self, bad: np.ndarray, name: str, column: str | None, problem: str) -> None:
        """Raises an error about the first bad sample."""
        if not bad.any():
            return
        sample = int(np.argmax(bad))
        row = int(self._row[sample])
        where = f"row {self._first + row}"
        if self._spec.impressions:
            where += f", impression {sample - int(np.searchsorted(self._row, row))}"
        if column:
            array = self._shown.get(column, self._columns.get(column))
            entry = array[sample if column in self._shown else row]
            problem = f"is {entry.as_py()!r}; it {problem}"
        raise DataError(f"{self._file}: {where} (from 0): {name} {problem}")

    def _ids(self, name: str) -> np.ndarray:
        array, entry = self._find(name, values.is_value, "values")
        return values.value_ids(self._spec.space(name), array, self._spec.missing)[entry]

    def _numbers(self, name: str) -> np.ndarray:
        array, entry = self._find(name, values.is_number, "numbers")
        return values.numbers(array)[entry]

    def _whole(self, name: str, must: str) -> np.ndarray:
        number = self._numbers(name)
        self._refuse(~(np.floor(number) == number), name, name, must)
        array, entry = self._find(name, values.is_number, "numbers")
        return pc.fill_null(array.cast(pa.int64()), 0).to_numpy()[entry]

    def _label(self) -> np.ndarray:
        name, least = self._spec.label.column, self._spec.label.at_least
        value = self._numbers(name)
        if least is None:
            must = 'must be 0 or 1, or give the label an "at_least"'
            self._refuse(~np.isin(value, (0, 1)), name, name, must)
            return value.astype(np.int64)
        self._refuse(np.isnan(value), name, name, "must be a number")
        return (value >= least).astype(np.int64)

    def _dense(self) -> np.ndarray:
        found = [self._numbers(name) for name in self._spec.dense_feature]
        with np.errstate(over="ignore"):
            dense = np.reshape(found, [len(found), len(self)]).T.astype(np.float32)
        return np.where(np.isfinite(dense), dense, np.float32("nan"))

    def _time(self) -> np.ndarray:
        """Times in ms, int64."""
        name, unit = self._spec.time, self._spec.time_unit
        array, entry = self._find(name, _is_time, "times or numbers")
        if pa.types.is_timestamp(array.type):
            array = array.cast(pa.timestamp("ms", array.type.tz), safe=False).cast(pa.int64())
            unit = "ms"
        elif unit is None:
            some = array[0].as_py()
            raise DataError(f'{self._file}: {name} holds numbers, {some!r}: give "time_unit"')
        time_ms = values.numbers(array)[entry] * UNIT_MS[unit]
        self._refuse(np.isnan(time_ms), name, name, "must be a time")
        years = (FIRST_YEAR, LAST_YEAR + 1)
        first, end = (float(np.datetime64(f"{year}", "ms").astype(int)) for year in years)
        never = (time_ms < first) | (time_ms >= end)
        if "time_range" not in self._spec.allow:
            must = f"should lie in {FIRST_YEAR} … {LAST_YEAR}, read as {unit} since 1970 "
            must += '(is "time_unit" wrong? "allow": ["time_range"] takes it as it is)'
            self._refuse(never, name, name, must)
        return np.rint(time_ms).astype(np.int64)

    def _days(self, time_ms: np.ndarray) -> np.ndarray:
        name = self._spec.day
        if name is None:
            return local_days(time_ms, self._spec.utc_offset_hours)
        array, entry = self._find(name, values.is_value, "days")
        days = values.days(array)[entry]
        self._refuse(days == 0, name, name, "must be a day, yyyymmdd or yyyy-mm-dd")
        return days

    def _histories(self) -> dict[str, tuple[np.ndarray, ...]]:
        spec, ids = self._spec, {}
        for field in spec.behaviour:
            name = f"{field}_list"
            ids[name], splits = self._lists(name)
            lengths = np.diff(splits)
            if len(ids) == 1:
                first, expected = name, lengths
            elif (unequal := lengths != expected).any():
                row = int(np.argmax(unequal))
                raise DataError(
                    f"{self._file}: row {self._first + row} (from 0): {first} has {expected[row]} "
                    f"entries and {name} {lengths[row]}: they must be equally many"
                )
        start, stop = splits[self._row], splits[self._row + 1]
        if spec.impressions:
            must = f"must count the newer ones of {first}, 0 to its length"
            newer = self._whole(NEWER, must)
            self._refuse((newer < 0) | (newer > stop - start), NEWER, NEWER, must)
            start = start + newer
        stop = np.minimum(stop, start + spec.max_len)
        return {name: (found, start, stop) for name, found in ids.items()}

    def _several(self, name: str) -> tuple[np.ndarray, ...]:
        """A field of several values, without the missing ones."""
        _, entry = self._find(name, _is_list_of_values, "lists of values")
        ids, splits = self._lists(name)
        splits = np.concatenate([[0], np.cumsum(ids != 0)])[splits]
        return ids[ids != 0], splits[:-1][entry], splits[1:][entry]

    def _lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a list column and its row splits."""
        array, _ = self._find(name, _is_list_of_values, "lists of values")
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        splits = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        space = self._spec.space(name.removesuffix("_list"))
        return values.value_ids(space, pc.list_flatten(array), self._spec.missing), splits


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _LISTS)


def _is_list_of_structs(kind: pa.DataType) -> bool:
    return _is_list(kind) and pa.types.is_struct(kind.value_type)


def _is_list_of_values(kind: pa.DataType) -> bool:
    return _is_list(kind) and values.is_value(kind.value_type)


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or values.is_number(kind)
