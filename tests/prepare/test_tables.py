"""Reading tables as text, and the account of the lines that do not parse."""

import gzip
import io
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diffumin_tf.errors import DataError
from diffumin_tf.prepare.tables import QUOTE_LENGTH, BadLines, read_table

CSV = 'id,city,fans\n007,"[100,1k)",3\n8,,NaN\n9,北京,-99\n'
TEXTS = {"city": ["[100,1k)", "", "北京"], "id": ["007", "8", "9"], "fans": ["3", "", ""]}


def read(path, columns=("city", "id", "fans"), max_bad_fraction=0.5, **options):
    """All chunks of a table as lists of texts, and the account."""
    bad = BadLines(str(path), max_bad_fraction)
    texts = {name: [] for name in columns}
    for chunk in read_table(columns, bad, **options):
        for name in columns:
            texts[name] += chunk.columns[name].to_pylist()
    return texts, bad


def packed(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, CSV)
    return content.getvalue()


def parquet():
    content = io.BytesIO()
    rows = {"id": ["007", "8", "9"], "city": ["[100,1k)", None, "北京"], "fans": [3, None, -99]}
    pq.write_table(pa.table(rows), content)
    return content.getvalue()


FORMATS = {
    "t.csv": CSV.encode(),
    "bom.csv": CSV.encode("utf-8-sig"),
    "t.csv.gz": gzip.compress(CSV.encode()),
    "t.zip": packed("folder/table.csv", "__MACOSX/folder/._table.csv"),
    "t.parquet": parquet(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_texts(tmp_path, name):
    (tmp_path / name).write_bytes(FORMATS[name])
    texts, bad = read(tmp_path / name, missing=["-99"])
    assert texts == TEXTS
    assert (bad.lines, bad.by_reason.total()) == (3, 0)


def written(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    return path


def test_chunks_hold_consecutive_rows_and_their_lines(tmp_path):
    path = written(tmp_path, b"a\n" + b"1\n" * 7)
    chunks = list(read_table(["a"], BadLines(str(path)), chunk_rows=3))
    assert [chunk.lines.tolist() for chunk in chunks] == [[2, 3, 4], [5, 6, 7], [8]]


def test_a_file_without_header_may_repeat_its_column_names(tmp_path):
    texts, bad = read(written(tmp_path, b"a,b\n1,2\n"), ("b",), header=("a", "b"))
    assert texts == {"b": ["2"]} and bad.lines == 1


def test_bad_lines_are_counted_and_quoted_with_their_line_numbers(tmp_path):
    lines = [b"a,b", b"1,2", b"1,2,3", b"\xff\xfe,2", b"", b"4,5", b"6,7," + b"x" * 300]
    texts, bad = read(written(tmp_path, b"\n".join(lines) + b"\n"), ("a", "b"))
    assert texts == {"a": ["1", "4"], "b": ["2", "5"]}
    assert bad.by_reason == {
        "3 columns instead of 2": 2,
        "0 columns instead of 2": 1,
        "bytes that are not UTF-8": 1,
    }
    assert [entry["line"] for entry in bad.first] == [3, 4, 5, 7]
    assert bad.first[1]["text"] == r"\xff\xfe,2"
    assert len(bad.first[3]["text"]) == QUOTE_LENGTH


def test_an_open_quote_counts_every_line_it_swallows(tmp_path):
    texts, bad = read(written(tmp_path, b'a,b\n1,2\n"3,4\n5,6\n7,8\n'), ("a",))
    assert texts == {"a": ["1"]}
    assert (bad.lines, bad.by_reason.total()) == (4, 3)


def test_only_the_first_five_bad_lines_are_quoted():
    bad = BadLines("t.csv")
    for line in (9, 3, 7, 1, 5, 8, 2):
        bad.add("reason", line, f"text {line}")
    assert [entry["line"] for entry in bad.first] == [1, 2, 3, 5, 7]
    assert bad.by_reason == {"reason": 7}


def test_more_bad_lines_than_allowed_fail_with_counts_and_quotes():
    bad = BadLines("t.csv", 0.01)
    bad.lines = 100
    bad.add("no label", 17, "x,y")
    bad.check()
    bad.add("no label", 30, "z")
    with pytest.raises(DataError, match=r"t.csv: 2 of 100 lines.*no label: 2(.|\n)*line 17.*x,y"):
        bad.check()


@pytest.mark.parametrize(("lines", "message"), [(0, "holds no rows"), (1, "1 of 1 lines")])
def test_a_file_without_a_good_line_fails(lines, message):
    bad = BadLines("t.csv", 1.0)
    bad.lines = lines
    bad.add("no label", 1, "x")
    with pytest.raises(DataError, match=f"t.csv: {message}"):
        bad.check()


UNREADABLE = {
    "empty.csv": b"",
    "cut.csv.gz": gzip.compress(CSV.encode() * 99)[:-20],
    "plain.csv.gz": CSV.encode(),
    "plain.zip": CSV.encode(),
    "two.zip": packed("a.csv", "b.csv"),
    "bad.parquet": b"PAR1 no",
}


@pytest.mark.parametrize("name", ["gone.csv", "folder.csv", *UNREADABLE])
def test_an_unreadable_file_is_one_error_that_names_it(tmp_path, name):
    if name in UNREADABLE:
        (tmp_path / name).write_bytes(UNREADABLE[name])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_an_absent_column_names_the_nearest_one(tmp_path, name):
    (tmp_path / name).write_bytes(FORMATS[name])
    with pytest.raises(DataError, match="'fan' is not there; did you mean 'fans'"):
        read(tmp_path / name, ("fan",))


def test_a_column_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(DataError, match="'a' stands twice in the header"):
        read(written(tmp_path, b"a,a\n1,2\n"), ("a",))
