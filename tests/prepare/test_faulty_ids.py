"""Faults of ids, users, labels and filters."""

import pytest

from tests.prepare.faults import (
    EQUAL,
    case,
    cells,
    check,
    column,
    counted,
    equal_to,
    frame,
    key,
    parquet,
    refused,
    warned,
)

AS_FLOATS = column("shown.sku", lambda sku: sku.astype(float))
BOUGHT = {"column": "bought", "equals": 1}
KEPT = key("views.keep_where", BOUGHT)
LABELS = {
    "True": lambda c: c == 1,
    "true": lambda c: c.map({0: "false", 1: "true"}),
    "1.0": lambda c: c / 1,
}


def add_to_ids(number):
    """Item ids of more digits, in every table."""
    return [column(f"{t}.sku", lambda sku: sku + number) for t in ("shown", "views", "items")]


CASES = [
    case("ids as floats in CSV", AS_FLOATS, EQUAL),
    case("ids as floats in Parquet", [AS_FLOATS, parquet("shown")], EQUAL),
    case(
        "ids as floats in all tables but one",
        [AS_FLOATS, column("items.sku", lambda sku: sku.astype(float)), parquet("items")],
        EQUAL,
    ),
    *(
        case(f"ids of {len(str(add))} digits as floats", [big, AS_FLOATS, how], equal_to(*big))
        for add in (7_000_000, 10_000_000_000)
        for big in (add_to_ids(add),)
        for how in ([], [parquet("shown")])
    ),
    case("ids as text", column("views.sku", lambda sku: sku.map("{:.0f}.00".format)), EQUAL),
    case("ids with an exponent", column("views.sku", lambda sku: sku.map("{:e}".format)), EQUAL),
    *(
        case(
            f"items keyed by {name}",
            column("items.sku", lambda sku, spell=spell: sku.map(spell)),
            refused("sku", r"items\.csv", example, allow="no_match"),
        )
        for name, spell, example in (
            ("ids with zeros in front", "{:05d}".format, "'00101'"),
            ("ids with blanks around", " {} ".format, "' 101 '"),
            ("other ids", lambda sku: sku - 100, "'1'"),
            ("ids with a prefix", "SKU{}".format, "'SKU101'"),
        )
    ),
    case(
        "ids in capitals and not",
        [column(f"{t}.sku", lambda sku: sku.map("a{}".format)) for t in ("shown", "views")]
        + [column("items.sku", lambda sku: sku.map("A{}".format))],
        refused("sku", r"items\.csv", "'a1", "'A1", allow="no_match"),
    ),
    *(
        case(
            f"ids that lost digits as {spell(123_456_789_012)}",
            [
                column(f"{t}.sku", lambda sku, spell=spell: (sku * 131 + 10**17).map(spell))
                for t in ("shown", "views")
            ]
            + [key("items", None), key("dense_feature", []), key("behaviour", ["sku"])]
            + [key("cat_feature", ["uid", "sku"])],
            warned(r"views\.csv", "'sku'", "digits"),
        )
        for spell in ("{:.5E}".format, "{:.16e}".format)
    ),
    case(
        "ids that lost digits as 32-bit floats",
        [*add_to_ids(10**9), key("allow", ["no_match"])]
        + [column("views.sku", lambda sku: sku.astype("float32")), parquet("views")],
        warned(r"views\.parquet", "'sku'", "digits"),
    ),
    *(
        case(
            f"a field called {name}",
            [
                column(f"shown.{name}", lambda shown: shown["page"]),
                key("shown.fields", ["page", name]),
                key("cat_feature", ["uid", "sku", name]),
            ],
            refused(rf"'{name}'", words),
        )
        for name, words in (("order", '"the_order"'), ("_t", '"the_t"'), ("Price", "'price'.*case"))
    ),
    case(
        "users keyed by other ids",
        column("users.uid", lambda uid: uid + 1000),
        refused("uid", r"users\.csv", allow="no_match"),
    ),
    case(
        "events of other users",
        column("views.uid", lambda uid: uid.map("u{}".format)),
        refused("uid", r"views\.csv", "'u"),
    ),
    case(
        "most of the items with zeros in front",
        column("items.sku", lambda sku: [f"{'0' * (n % 3)}{n}" for n in sku]),
        warned("sku", r"items\.csv", "'00101'", "'101'"),
    ),
    case(
        "a third of the items",
        frame("items", lambda items: items[::3]),
        warned("sku", r"items\.csv", r"3\d(\.\d)? ?%"),
    ),
    *(
        case(
            f"the user {word} in {table}",
            cells(f"{table}.uid", [1, 5, 7], word),
            counted(f"{table}.csv", bad=3),
        )
        for word in ("null", "None", "NULL", r"\N", "NaN", "<NA>", "NA", "undefined", "", " ")
        for table in (("shown", "views") if word in ("null", "") else ("shown",))
    ),
    case(
        "a fifth of the users are null",
        cells("shown.uid", slice(0, None, 5), "null"),
        refused(r"shown\.csv", "uid", "null", "max_bad_fraction"),
    ),
    case(
        "a user who is really called null",
        [
            [cells(f"{t}.uid", [3, 5], "null"), key("allow", ["missing_words"])]
            for t in ("shown", "views")
        ],
        counted("shown.csv", bad=0),
    ),
    case("the item None", cells("views.sku", [1, 5], "None"), counted("views.csv", bad=2)),
    case(
        "users that are null in Parquet",
        [column("shown.uid", lambda uid: uid.where(uid.index % 300 > 0)), parquet("shown")],
        counted("shown.parquet", bad=2),
    ),
    case(
        "one user with most of the events",
        cells("views.uid", slice(0, None, 2), 7),
        refused(r"'7'", r"5\d(\.\d)? ?%", allow="heavy_user"),
    ),
    case(
        "one user with 40 % of the log",
        [
            column(f"{t}.uid", lambda uid: uid.where(uid.index % 5 > 1, 0))
            for t in ("shown", "views")
        ],
        refused(r"'0'", allow="heavy_user"),
    ),
    case(
        "one user with 40 % of the impressions",
        column("shown.uid", lambda uid: uid.where(uid.index % 5 > 1, 40)),
        refused(r"shown\.csv", r"'40'", allow="heavy_user"),
    ),
    *(
        case(
            f"a flag in Parquet equals {value!r}",
            [
                column("views.bought", lambda flags: flags == 1),
                key("views.keep_where", BOUGHT | {"equals": value}),
            ]
            + [parquet("views")],
            equal_to(KEPT),
        )
        for value in (1, True, "True", "true")
    ),
    *(
        case(
            f"a flag written {yes} equals {value!r}",
            [column("views.bought", lambda flags, yes=yes: flags.map({1: yes, 0: "no"}))]
            + [key("views.keep_where", BOUGHT | {"equals": value})],
            equal_to(KEPT),
        )
        for yes, value in (("True", True), ("true", True), ("1.0", 1), ("1", "1"), ("1", True))
    ),
    *(
        case(
            f"no kind equals {value!r}",
            key("views.keep_where", {"column": "kind", "equals": value}),
            refused(
                *(r"views\.csv", "keep_where 'kind'", "'view'"),
                **{"allow": "filter_keeps_nothing", "also": ["no_match", "empty_histories"]},
            ),
        )
        for value in ("purchase", "View", "view ", 1)
    ),
    case(
        "all rows pass",
        [column("views.kind", lambda kind: "view")]
        + [key("views.keep_where", {"column": "kind", "equals": "view"})],
        warned(r"views\.csv", "kind", "every row"),
    ),
    case(
        "a filter of a column that is not there",
        key("views.keep_where", {"column": "knd", "equals": "view"}),
        refused(r"views\.csv", "'knd'", "'kind'"),
    ),
    case(
        "rows that are dropped may lack an item",
        [KEPT, frame("views", lambda v: v.assign(sku=v["sku"].where(v["bought"] == 1)))],
        equal_to(KEPT),
        counted("views.csv", bad=0),
    ),
    case(
        "no impression is a behaviour",
        key("impressions_are_events", {"keep_where": {"column": "page", "equals": "cart"}}),
        refused(r"shown\.csv", "'page' equals 'cart'", allow="filter_keeps_nothing"),
    ),
    *(case(f"the label {n}", column("shown.clicked", f), EQUAL) for n, f in LABELS.items()),
    case("the label as bool", [column("shown.clicked", lambda c: c == 1), parquet("shown")], EQUAL),
    case(
        "labels -1 and 1",
        column("shown.clicked", lambda c: 2 * c - 1),
        refused(r"shown\.csv", "clicked", "-1", "at_least"),
    ),
    case(
        "labels yes and no",
        column("shown.clicked", lambda c: c.map({1: "yes", 0: "no"})),
        refused(r"shown\.csv", "clicked", "yes|no"),
    ),
    case(
        "all labels 0", column("shown.clicked", lambda c: 0), refused("clicked", allow="one_label")
    ),
    case("labels are missing", cells("shown.clicked", [4, 5], ""), counted("shown.csv", bad=2)),
]


@pytest.mark.parametrize(("steps", "expectations"), CASES)
def test_no_faulty_id_or_filter_passes_in_silence(tmp_path, steps, expectations):
    check(tmp_path, steps, expectations)
