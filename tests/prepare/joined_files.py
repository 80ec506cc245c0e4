"""Small logs in the joined form, and what each sample of them must hold, found the slow way."""

import datetime
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq

from tests.prepare.prepared import ids

T0 = 1_651_363_200_000  # 2022-05-01 in UTC
DAY = 86_400_000
SPEC = {
    "adapter": "joined",
    "user": "uid",
    "label": {"column": "click"},
    "time_unit": "ms",
    "cat_feature": ["uid", "city", "sku", "hour"],
    "dense_feature": ["age", "price"],
    "multi_feature": ["tags", "genres"],
    "behaviour": ["sku", "brand"],
    "max_len": 3,
    "spaces": {"brand_list": "maker", "genres": "genre"},
    "missing": ["-1"],
}


def rows(seed=0, users=12, days=(0,)):
    """Rows of the joined form, in which anything that may be missing sometimes is."""
    rng = random.Random(seed)
    order = iter(rng.sample(range(10_000), 2_000))

    def some(*values):
        return rng.choice((None, *values))

    def texts(alphabet, longest):
        return rng.choice((None, [some("", *alphabet) for _ in range(rng.randint(0, longest))]))

    def impression(day, length):
        return {
            "click": rng.randint(0, 1),
            "time": T0 + day * DAY + rng.randrange(DAY),
            "newer": rng.randint(0, length),
            "order": next(order),
            "sku": some("7.0", "8", "-1", "x"),
            "hour": some(3, 4),
            "price": some(1.5, float("nan"), -2.0),
            "genres": texts("ab", 2),
        }

    found = []
    for user in range(users):
        skus = [some("7", "8", "x", "") for _ in range(rng.randint(0, 6))]
        shown = [impression(rng.choice(days), len(skus)) for _ in range(rng.randint(0, 4))]
        brands = [some(1.0, 2.5, -1.0) for _ in skus]
        found.append(
            {
                **{"uid": f"u{user}", "city": some("rome", "nan"), "age": some(30, 40)},
                **{"tags": texts("pqr", 3), "impressions": shown or some([])},
                **{"sku_list": skus or some([]), "brand_list": brands or some([])},
            }
        )
    return found


def columns(content, **others):
    """The rows as Arrow columns; `others` replaces some."""
    text, number = pa.string(), pa.float64()
    impression = {"click": pa.int64(), "time": pa.int64(), "newer": pa.int64(), "order": pa.int64()}
    impression |= {"sku": text, "hour": pa.int32(), "price": number, "genres": pa.list_(text)}
    types = {"uid": text, "city": text, "age": pa.int16(), "tags": pa.list_(text)}
    types |= {"impressions": pa.list_(pa.struct(impression))}
    types |= {"sku_list": pa.list_(text), "brand_list": pa.list_(number)}
    table = {n: pa.array([row[n] for row in content], kind) for n, kind in types.items()}
    return {n: column for n, column in {**table, **others}.items() if column is not None}


def write_file(folder, name, content, **others):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns(content, **others)), path, row_group_size=5)


def write_spec(folder, **changes):
    path = folder / "prepare.json"
    path.write_text(json.dumps({**SPEC, **changes}))
    return str(path)


def _canonical(value):
    texts = {None: "", "7.0": "7", "-1": "", -1.0: "", 1.0: "1", "nan": ""}
    return texts.get(value, str(value))


def _ids(space, values):
    return ids(space, *map(_canonical, values or ()))


def expected(content, day=0):
    """The samples of a day, in the order of rows and impressions, with their `order`."""
    samples = []
    for row in content:
        for shown in row["impressions"] or ():
            if (shown["time"] - T0) // DAY != day:
                continue
            seen = slice(shown["newer"], shown["newer"] + SPEC["max_len"])
            cells = {"uid": row["uid"], "city": row["city"], "sku": shown["sku"]}
            cells["hour"] = shown["hour"]
            price = shown["price"] if shown["price"] == shown["price"] else None
            sample = {
                "label": [shown["click"]],
                "auxiliary_info": [*ids("uid", row["uid"]), shown["time"] // 1000],
                "cat_feature": [_ids(name, [cell])[0] for name, cell in cells.items()],
                "dense_feature": [float(row["age"] or 0), price or 0.0],
                "tags": [i for i in _ids("tags", row["tags"]) if i],
                "genres": [i for i in _ids("genre", shown["genres"]) if i],
                "sku_list": _ids("sku", row["sku_list"])[seen],
                "brand_list": _ids("maker", row["brand_list"])[seen],
            }
            samples.append((shown["order"], sample))
    return samples


def day_name(day):
    return (datetime.date(2022, 5, 1) + datetime.timedelta(day)).strftime("%Y%m%d")
