"""Where the bad rows of a table stand."""

import pytest

from diffumin_tf.prepare.tables.accounts import first_bad
from diffumin_tf.prepare.tables.duckdb_engine import DuckDBEngine
from diffumin_tf.prepare.tables.sources import count_lines, open_source

FAULTY = [(1, "x", "1,2"), (2, "x", "3,4"), (None, "x", "5,6")]


@pytest.mark.parametrize(
    ("header", "plain", "expected"),
    [
        (False, True, [{}, {"line": 1}, {"line": 2}, {"line": 3}]),
        (True, True, [{}, {"line": 2}, {"line": 3}, {"line": 4}]),
        (False, False, [{}, {"row": 1}, {"line": 2}, {"row": 2}]),
    ],
)
def test_a_row_stands_behind_the_header_and_the_lines_that_do_not_parse(
    tmp_path, header, plain, expected
):
    names = "a,b\n" * header
    (tmp_path / "t.csv").write_text(f"{names}1,2\n7,8,9\n3,4\n")
    source = open_source(
        [str(tmp_path / "t.csv")], "t", str(tmp_path), header=() if header else ("a", "b")
    )
    with DuckDBEngine(str(tmp_path)) as engine:
        engine.add(0, source)
        engine.rows("SELECT count(a) FROM raw_0")
        rejects = engine.rejects(0, source)
    _, _, at = count_lines(source, 0, [entry["at"] for entry in rejects])
    lines = {(0, offset): line for offset, line in at.items()}
    found = first_bad(source, rejects, lines, FAULTY, plain)
    places = [{key: bad[key] for key in ("row", "line") if key in bad} for bad in found]
    assert places == expected


def test_of_several_files_the_one_of_a_reject_is_named(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a,b\n1,2,3\n1,2\n")
    source = open_source([str(tmp_path / n) for n in ("a.csv", "b.csv")], "t", str(tmp_path))
    with DuckDBEngine(str(tmp_path)) as engine:
        engine.add(0, source)
        engine.rows("SELECT count(a) FROM raw_0")
        rejects = engine.rejects(0, source)
    lines = {(file, 5): 2 for file in (0, 1)}
    faults = {"reason": "3 columns instead of 2", "text": "1,2,3"}
    assert first_bad(source, rejects, lines, FAULTY[:1], True) == [
        {"row": 1, "reason": "x", "text": "1,2"},
        {"file": "a.csv", "line": 2, **faults},
        {"file": "b.csv", "line": 2, **faults},
    ]
    # Where no place is known:
    assert first_bad(source, rejects, {}, (), True) == [faults, faults]
