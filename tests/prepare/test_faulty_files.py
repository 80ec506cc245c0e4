"""Faults of files and of the columns in them."""

import bz2
import gzip
import io
import json
import re
import zipfile

import pandas as pd
import pyarrow as pa
import pytest

from tests.prepare.faults import (
    DAY,
    EQUAL,
    T0,
    case,
    cells,
    check,
    column,
    content,
    equal_to,
    file,
    key,
    parquet,
    refused,
    warned,
)


def tagged(tags, **rule):
    """The items have a field of several values."""
    return [
        column("items.tags", tags),
        key("items.fields", ["brand", "price", {"name": "tags", **rule}]),
        key("cat_feature", ["uid", "city", "sku", "brand", "tags", "page", "hour"]),
    ]


def as_lists(items):
    return [["red", "blue"], ["green"]] * (len(items) // 2)


def joined(items):
    return ["|".join(tags) for tags in as_lists(items)]


def zipped(text, *members):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        for name in ("__MACOSX/._views.csv", *(members or ["views.csv"])):
            packed.writestr(name, text)
    return archive.getvalue()


def differing(table, folder):
    folder.mkdir()
    table.to_csv(folder / "1.csv", index=False)
    table.drop(columns="kind").to_csv(folder / "2.csv", index=False)


def csv(**options):
    return lambda table, path: table.to_csv(path, index=False, **options)


def partitioned(table, path):
    """Hive folders of the days, with what Spark leaves beside them."""
    for day, rows in table.groupby((table["ts"] - T0) // DAY):
        folder = path / f"dt=2024-03-0{day + 1}"
        folder.mkdir(parents=True)
        rows.to_parquet(folder / "part-0.snappy.parquet", index=False)
        (folder / "._part-0.crc").write_text("x")
    (path / "_SUCCESS").write_text("")


def halves(write, *names):
    """Each half of the rows in a file of the folder."""

    def split(table, folder):
        for name, rows in zip(names, (table[:600], table[600:]), strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write(rows, folder / name)

    return split


def nested(table, path):
    """The item as a struct, as Spark writes JSON logs."""
    items = [{"sku": sku, "price": 1.0} for sku in table["sku"]]
    table.drop(columns="sku").assign(item=items).to_parquet(path, index=False)


def in_two(**changes):
    """Two Parquet files of items, the first with columns of another type."""

    def write(table, folder):
        folder.mkdir()
        changed = {name: change(table[name][:30]) for name, change in changes.items()}
        table[:30].assign(**changed).to_parquet(folder / "1.parquet")
        table[30:].to_parquet(folder / "2.parquet")

    return file("items", "parts", write)


def beside(name, leftover):
    """The views in a folder, with some of them once more in a folder that an engine left."""

    def write(table, folder):
        (folder / leftover).mkdir(parents=True)
        table.to_csv(folder / "1.csv", index=False)
        table[:99].to_csv(folder / leftover / name, index=False)

    return file("views", "days", write)


def bracketed(table, path):
    table.to_csv(path, index=False)
    table[:9].to_csv(path.with_name("views1.csv"), index=False)


def torn(data):
    return data[: len(data) // 2]


GOOD_BYTES = {  # what a file may hold, whatever its name says
    "blank lines at the end": lambda text: text + "\n\n",
    "no line end at the end": lambda text: text.rstrip("\n"),
    "Windows line ends": lambda text: text.replace("\n", "\r\n"),
    "a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 of the other end": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "gzip": lambda text: gzip.compress(text.encode()),
    "gzip in two members": lambda t: (
        gzip.compress(t[:999].encode()) + gzip.compress(t[999:].encode())
    ),
    "a zip": zipped,
    "quoted cells": lambda text: '"' + text.strip().replace(",", '","').replace("\n", '"\n"') + '"',
}
BAD_BYTES = {  # what is said of others
    "nothing": (lambda text: "", "empty|no header|no rows"),
    "only a header": (lambda text: text.partition("\n")[0] + "\n", "no rows"),
    "no header": (lambda text: text.partition("\n")[2], "'uid'"),
    "a torn gzip": (lambda text: torn(gzip.compress(text.encode())), "cannot be read"),
    "a torn zip": (lambda text: torn(zipped(text)), "cannot be read"),
    "a torn Parquet": (lambda text: b"PAR1" + text.encode(), "cannot be read"),
    "two files in a zip": (lambda text: zipped(text, "a.csv", "b.csv"), "exactly one"),
    "bzip2": (lambda text: bz2.compress(text.encode()), "bzip2"),
    "a column twice": (lambda text: text.replace("kind", "uid", 1), "'uid'.*twice"),
    "a column of another name": (lambda text: text.replace("sku", "SKU", 1), "'sku'.*SKU"),
    "line ends of CR alone": (lambda text: text.replace("\n", "\r"), "CR"),
    "semicolons": (lambda text: text.replace(",", ";"), 'delimiter.*";"'),
    "tabs": (lambda text: text.replace(",", "\t"), r'delimiter.*"\\t"'),
    "lines cut short": (lambda t: re.sub(r"(?m)^(1,.*),\d$", r"\1", t), "max_bad_fraction"),
}
FILES = [
    *(case(f"CSV with {name}", content("views", f), EQUAL) for name, f in GOOD_BYTES.items()),
    *(
        case(f"CSV with {name}", content("views", f), refused(r"views\.csv", words))
        for name, (f, words) in BAD_BYTES.items()
    ),
    *(
        case(f"tabs in {name}", file("views", name, csv(sep="\t")), EQUAL)
        for name in ("views.tsv", "views.tsv.gz", "views.tab")
    ),
    *(
        case(f"Parquet called {name}", parquet("views", name), EQUAL)
        for name in ("views.csv", "views.pq", "views", "views.parquet.snappy")
    ),
    *(
        case(f"CSV called {name}", file("views", name, csv(compression=None)), EQUAL)
        for name in ("views.txt", "views.log", "views.csv.gz", "views")
    ),
    case(
        "CSV called Parquet", file("views", "v.parquet", csv()), refused(r"v\.parquet", "Parquet")
    ),
    case(
        "the index of pandas in the first column",
        file("views", "views.csv", lambda table, path: table.to_csv(path)),
        EQUAL,
    ),
    case(
        "text as bytes in Parquet",
        [column("items.brand", lambda b: [f"ä{x}".encode() for x in b]), parquet("items")],
        equal_to(column("items.brand", lambda brand: "ä" + brand)),
    ),
    case("no such file", key("views.file", "vews.csv"), refused(r"vews\.csv", "no file fits")),
    case("no such pattern", key("views.file", "v/*.csv"), refused(r"v/\*\.csv", "(?i)no file")),
    *(
        case(f"{kind} files as {pattern}", file("views", "days", writer, pattern), EQUAL)
        for kind, writer in (
            ("CSV", halves(csv(), "a/1.csv", "b/2.csv")),
            ("Parquet", halves(pd.DataFrame.to_parquet, "a/1.parquet", "b/2.parquet")),
        )
        for pattern in ("days", "days/", "days/*/*", "**/[12].*")
    ),
    case("Hive partitions", file("shown", "days", partitioned), EQUAL),
    case(
        "Hive partitions as days", [file("shown", "d", partitioned), key("shown.day", "dt")], EQUAL
    ),
    case(
        "files with other columns",
        file("views", "days", differing),
        refused(r"2\.csv", r"1\.csv", "kind"),
    ),
    *(
        case(f"items in two files, of which one has {what}", in_two(**change), EQUAL)
        for what, change in {
            "ids as text": {"sku": lambda sku: sku.astype(str)},
            "ids as floats": {"sku": lambda sku: sku.astype(float)},
            "ids of 32 bits": {"sku": lambda sku: sku.astype("int32")},
        }.items()
    ),
    case(
        "items in two files, of which one has whole prices",
        in_two(price=lambda price: price.astype(int)),
        equal_to(column("items.price", lambda p: p.where(p.index >= 30, p // 1))),
    ),
    case(
        "items in two files, of which one lacks all brands",
        in_two(brand=lambda brand: None),
        equal_to(cells("items.brand", slice(0, 30), "")),
    ),
    case(
        "items in two files, of which one has flags",
        in_two(price=lambda price: price > 9),
        refused(r"2\.parquet", r"1\.parquet", "'price'", "bool", "double"),
    ),
    *(
        case(f"a folder {name} beside", beside("1.csv", name), EQUAL)
        for name in ("_temporary/0", ".ipynb_checkpoints")
    ),
    case("a Delta table", beside("1.csv", "_delta_log"), refused("_delta_log", "Delta")),
    case("a name that is a pattern", file("views", "views[1].csv", bracketed), EQUAL),
    case(
        "columns that differ in case alone",
        column("shown.UID", lambda shown: 1),
        refused(r"shown\.csv", "'uid'", "'UID'", "case"),
    ),
    case("structs", [file("views", "v.parquet", nested), key("views.item", "item.sku")], EQUAL),
    case(
        "one table twice, of which one filter keeps nothing",
        lambda log: log.spec["events"].insert(
            0, {**log.spec["events"][0], "keep_where": {"column": "kind", "equals": "buy"}}
        ),
        refused(r"views\.csv", "'kind' equals 'buy'", allow="filter_keeps_nothing"),
    ),
    case(
        "a struct as a column",
        [file("views", "v.parquet", nested), key("views.item", "item")],
        refused(r"v\.parquet", "'item'", r"item\.sku"),
    ),
    case(
        "lists",
        [*tagged(as_lists, lists=True), parquet("items")],
        equal_to(*tagged(joined, split="|")),
    ),
    case(
        "lists as a column",
        [*tagged(as_lists), parquet("items")],
        refused("items", "'tags'", "lists"),
    ),
    case(
        "lists of one length",
        [*tagged(lambda items: [["red", "blue"]] * 60, lists=True)]
        + [parquet("items", tags=pa.list_(pa.string(), 2))],
        equal_to(*tagged(lambda items: "red|blue", split="|")),
    ),
    *(
        case(
            f"lists of {what}",
            [*tagged(lambda items, value=value: [[value]] * 60, lists=True), parquet("items")],
            refused("items", "'tags'", "not values"),
        )
        for what, value in (("lists", ["red"]), ("structs", {"tag": "red"}))
    ),
    case(
        "blanks beside the separator",
        tagged(lambda items: [" | ".join(tags) for tags in as_lists(items)], split="|"),
        equal_to(*tagged(joined, split="|")),
    ),
    case("another separator", tagged(joined, split=","), warned(r"items\.csv", "'tags'", "','")),
    *(
        case(
            f"lists printed as {printed([['red', 'blue']])[0]}",
            tagged(lambda items, printed=printed: printed(as_lists(items)), split=","),
            refused(r"items\.csv", "'tags'", "red.*blue|17", allow="printed_lists"),
        )
        for printed in (
            lambda lists: [str(tags) for tags in lists],
            lambda lists: [json.dumps(tags) for tags in lists],
            lambda lists: [f"{{{','.join(tags)}}}" for tags in lists],
            lambda lists: ["[17,4,31]" for tags in lists],
        )
    ),
]


@pytest.mark.parametrize(("steps", "expectations"), FILES)
def test_no_faulty_file_passes_in_silence(tmp_path, steps, expectations):
    check(tmp_path, steps, expectations)
