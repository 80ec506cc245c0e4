"""What DuckDB and Spark write differently in the SQL of `plan.py`."""

from collections.abc import Mapping, Sequence


class DuckDB:
    """The dialect of DuckDB; `Spark` says the same in its own words.

    Patterns are regular expressions that fit a whole text and hold no backslash.
    """

    text_type = "VARCHAR"
    list_type = "VARCHAR[]"
    no_values = "[]"
    row_is_number = True  # `_row`, the place of a row in its table; something that sorts otherwise

    def create(self, name: str, query: str, stored: bool = True) -> str:
        return f"CREATE OR REPLACE TEMP {'TABLE' if stored else 'VIEW'} {name} AS\n{query}"

    def column(self, steps: Sequence[str]) -> str:
        """A column, or a field within a struct."""
        return ".".join('"' + step.replace('"', '""') + '"' for step in steps)

    def literal(self, text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    def matches(self, text: str, pattern: str) -> str:
        return f"regexp_full_match({text}, '{pattern}')"

    def split(self, text: str, separator: str) -> str:
        values = f"string_split({text}, {self.literal(separator)})"
        return f"list_transform({values}, lambda x: trim(x))"

    def first(self, values: str) -> str:
        return f"{values}[1]"

    def size(self, values: str) -> str:
        return f"len({values})"

    def with_colon(self, text: str) -> str:
        """A date-time whose zone `+0800` reads `+08:00`."""
        return rf"regexp_replace({text}, '(:[0-9.]+ ?[+-][0-9][0-9])([0-9][0-9])$', '\1:\2')"

    def zoned_ms(self, text: str) -> str:
        """Epoch milliseconds of a date-time that says its zone."""
        return f"epoch_ms(TRY_CAST({text} AS TIMESTAMPTZ))"

    def local_ms(self, text: str, zone: str) -> str:
        """Epoch milliseconds of a date-time in a zone."""
        return f"epoch_ms(TRY_CAST({text} AS TIMESTAMP) AT TIME ZONE {self.literal(zone)})"

    def date(self, days: str) -> str:
        """The date so many days after 1970-01-01."""
        return f"(DATE '1970-01-01' + CAST({days} AS INTEGER))"

    def numbers(self, first: str, last: str) -> str:
        """A row for each whole number from first to last."""
        return f"unnest(generate_series({first}, {last}))"

    def slice(self, values: str, start: str, length: str) -> str:
        """Some values from `start`, counted from 0."""
        return f"list_slice({values}, {start} + 1, {start} + {length})"

    def struct(self, values: Mapping[str, str]) -> str:
        named = (f"{self.column([name])} := {value}" for name, value in values.items())
        return f"struct_pack({', '.join(named)})"

    def listed(self, value: str, by: str) -> str:
        """Aggregate: a value of each row of a group, NULL included, in the order of `by`.

        DuckDB is quicker without an order, and the joined form holds it as a number.
        """
        return f"list({value})"

    def newest_first(self, value: str, by: str) -> str:
        """Aggregate: a value of each row of a group, NULL included, the largest `by` first."""
        return f"list({value} ORDER BY {by} DESC)"

    def each(self, structs: str, field: str) -> str:
        """A field of each struct in a list."""
        return f"list_transform({structs}, lambda x: x.{self.column([field])})"

    def bucket_of(self, text: str, buckets: str) -> str:
        """A whole number below `buckets` that depends on a text alone."""
        return f"CAST(hash({text}) % ({buckets}) AS INTEGER)"

    def digest(self, values: Sequence[str]) -> str:
        """A whole number that tells rows apart, the same on every machine; sums stand for sets."""
        text = f"concat_ws('|', {', '.join(self._shown(v) for v in values)})"
        return f"CAST(CAST('0x' || substr(md5({text}), 1, 11) AS BIGINT) AS HUGEINT)"

    def _shown(self, value: str) -> str:
        """The value with its length, so that its neighbours begin where they begin."""
        text = f"CAST({value} AS {self.text_type})"
        return f"coalesce(CAST(length({text}) AS {self.text_type}) || ':' || {text}, '~')"


class Spark(DuckDB):
    """The dialect of Spark SQL, 4 or later."""

    text_type = "STRING"
    list_type = "ARRAY<STRING>"
    no_values = "array()"
    row_is_number = False

    def create(self, name: str, query: str, stored: bool = True) -> str:
        return f"CREATE OR REPLACE TEMPORARY VIEW {name} AS\n{query}"

    def column(self, steps: Sequence[str]) -> str:
        return ".".join("`" + step.replace("`", "``") + "`" for step in steps)

    def literal(self, text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    def matches(self, text: str, pattern: str) -> str:
        return f"regexp_like({text}, '^({pattern})$')"

    def split(self, text: str, separator: str) -> str:
        quoted = "".join(f"[{c}]" if c not in "^\\" else f"\\{c}" for c in separator)
        return f"transform(split({text}, {self.literal(quoted)}), x -> trim(x))"

    def first(self, values: str) -> str:
        return f"get({values}, 0)"

    def size(self, values: str) -> str:
        return f"size({values})"

    def with_colon(self, text: str) -> str:
        return f"regexp_replace({text}, '(:[0-9.]+ ?[+-][0-9][0-9])([0-9][0-9])$', '$1:$2')"

    def zoned_ms(self, text: str) -> str:
        return f"unix_millis(TRY_CAST({text} AS TIMESTAMP))"

    def local_ms(self, text: str, zone: str) -> str:
        local = f"TRY_CAST({text} AS TIMESTAMP)"  # in the session's zone, which is UTC
        return f"unix_millis(to_utc_timestamp({local}, {self.literal(zone)}))"

    def date(self, days: str) -> str:
        return f"date_add(DATE '1970-01-01', CAST({days} AS INTEGER))"

    def numbers(self, first: str, last: str) -> str:
        return f"explode(sequence({first}, {last}))"

    def slice(self, values: str, start: str, length: str) -> str:
        return f"slice({values}, CAST({start} + 1 AS INTEGER), CAST({length} AS INTEGER))"

    def struct(self, values: Mapping[str, str]) -> str:
        named = (f"{self.literal(name)}, {value}" for name, value in values.items())
        return f"named_struct({', '.join(named)})"

    def listed(self, value: str, by: str) -> str:
        # collect_list knows no order, and leaves out NULL unless it is in a struct.
        return f"transform(array_sort(collect_list(struct({by} AS k, {value} AS v))), x -> x.v)"

    def newest_first(self, value: str, by: str) -> str:
        ordered = f"reverse(array_sort(collect_list(struct({by} AS k, {value} AS v))))"
        return f"transform({ordered}, x -> x.v)"

    def each(self, structs: str, field: str) -> str:
        return f"transform({structs}, x -> x.{self.column([field])})"

    def bucket_of(self, text: str, buckets: str) -> str:
        return f"CAST(pmod(xxhash64({text}), {buckets}) AS INTEGER)"

    def digest(self, values: Sequence[str]) -> str:
        text = f"concat_ws('|', {', '.join(self._shown(v) for v in values)})"
        number = f"CAST(conv(substr(md5({text}), 1, 11), 16, 10) AS BIGINT)"
        return f"CAST({number} AS DECIMAL(38, 0))"


DIALECTS = {"duckdb": DuckDB(), "spark": Spark()}
