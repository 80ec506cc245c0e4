"""A few small tables and the spec that joins them, for tests of `prepare`."""

import json

# 2022-04-24 23:30 in UTC, which is 2022-04-25 07:30, a Monday, in UTC+8.
T0 = 1_650_843_000_000
DAY = 86_400_000
FILES = {
    "shown.csv": f"""uid,vid,ms,tab,click,watched
ann,1,{T0 + 5},home,1,1
bob,2,{T0 + 5},home,0,0
ann,2,{T0 + 7},,0,0
ann,3,{T0 + 7},feed,1,1
cat,9,{T0 + DAY},feed,1,0
ann,1,{T0 + DAY},feed,0,1
""",
    "earlier.csv": f"""who,what,ms,no,watched
ann,2,{T0},1,0
ann,1,{T0},0,1
ann,3,{T0 - 1},7,1
bob,3,{T0 + 5},0,1
bob,7,{T0 + 4},0,
""",
    "users.csv": 'uid,city,fans\nann,"a,b",3\nbob,nan,-5\n',
    "items.csv": 'vid,author,tag,length\n1,x,"t1,t2",1000\n2,y,t2,\n3,x,,3\n',
}
SPEC = {
    "impressions": {
        **{"file": "shown.csv", "user": "uid", "item": "vid", "time": "ms", "time_unit": "ms"},
        "label": {"column": "click"},
        "outcomes": ["watched"],
        "fields": ["tab", "watched"] + [{"name": n, "time": n} for n in ("hour", "weekday")],
    },
    "impressions_are_events": {"keep_where": {"column": "watched", "equals": 1}},
    "events": [
        {
            **{
                "file": "earlier.csv",
                "user": "who",
                "item": "what",
                "order_by": ["ms", "no"],
                "time_unit": "ms",
            },
            "fields": ["watched"],
        }
    ],
    "users": {
        **{"file": "users.csv", "key": "uid"},
        "fields": ["city", "fans", {"name": "log_fans", "column": "fans", "log1p": True}],
    },
    "items": {
        **{"file": "items.csv", "key": "vid"},
        "fields": [
            "author",
            {"name": "tag", "split": ",", "take": "first"},
            {"name": "length", "bucket": "log2"},
            {"name": "length_class", "column": "length", "bucket": [1, 1000]},
        ],
    },
    "cat_feature": "uid vid author tag length length_class city tab hour weekday".split(),
    "dense_feature": ["fans", "log_fans"],
    "behaviour": ["vid", "tag", "watched", "tab"],
    **{"max_len": 3, "spaces": {"length_class": "class"}, "utc_offset_hours": 8},
    "max_bad_fraction": 0.0,
}


def write_spec(folder, spec):
    path = folder / "prepare.json"
    path.write_text(json.dumps(spec))
    return str(path)
