"""The report on the data; how the page looks was looked at by people."""

import html.parser
import json
import re

import pytest

from diffumin_tf.prepare.report.screen import lines, write_page
from diffumin_tf.prepare.report.words import count, duration, percent, quantity

EVIL = "<script>alert('1')</script>"
FACTS = {
    "tables": {
        "shown.csv": {
            "role": "impressions",
            "files": 1,
            "rows": 600_000,
            "bad": 3,
            "bad_by_reason": {"no time": 2, "no user": 1},
            "first_bad": [
                {"line": 14, "reason": "no time", "text": f"17,\x1b[31m{EVIL}"},
                {"line": 77, "reason": "no user", "text": ",5"},
            ],
            "bad_values": {"price": 22},
            "blank_lines": 1,
            "dropped_by_filter": 10,
            "lines_within_quotes": 7,
            "duplicates": 0,
            "time": {
                "first": "2024-03-01T00:00:05+00:00",
                "last": "2024-03-02T23:59:58Z",
                "grain": "second",
                "zone": "Asia/Shanghai",
            },
        },
        "items.csv": {"role": "items", "rows": 40},
    },
    "joins": [
        {"what": "impressions.user in users.csv", "found": 590, "of": 600, "rate": 590 / 600},
        {
            "what": "impressions.item in items.csv",
            "found": 6,
            "of": 600,
            "rate": 0.01,
            "examples": ["17", "18", "19"],
            "examples_there": ["017", EVIL],
        },
    ],
    "own_item": {
        "clicked": 0.6,
        "not_clicked": 0.03,
        "median_lag_seconds": 5,
        "measured_on": 599,
    },
    "empty_histories": 0.021,
    "outside_of_days": 9,
    "history_length": {"mean": 43.21, "min": 0, "p50": 40, "max": 1234},
    "missing": {"brand": 0.12, "city": 0.31, "price": 0.0001, "sku": 0.0},
    "new": {
        "20240301": {"candidates": 1.0, "users": 1.0},
        "20240302": {"candidates": 0.107, "users": 0.024},
    },
    "heavy_users": [{"user": EVIL, "events": 0.0308}],
    "days": {
        "20240301": {"examples": 1200, "records": 400, "clicks": 300, "click_rate": 0.25},
        "20240302": {"examples": 800, "records": 250, "clicks": 100, "click_rate": 0.125},
    },
    "group": "user_day",
    "warnings": [f"first {EVIL}", "second: " + "long " * 30 + "end"],
    "allowed": ["own_item"],
}
SCREEN = f"""\
table         rows  bad  dropped  first (UTC)       last (UTC)        grain
shown.csv  600,000    3       10  2024-03-01 00:00  2024-03-02 23:59  second
  bad rows: no time 2, no user 1
  values that cannot be read, now missing: price 22
  line 14, no time: 17,\\x1b[31m{EVIL}
  blank lines: 1
  lines within quotes: 7
  time zone: Asia/Shanghai
items.csv       40    –        –  –                 –

join                           found   of    rate
impressions.item in items.csv      6  600   1.0 %
  not found: '17', '18'
  there are: '017', '{EVIL}'
impressions.user in users.csv    590  600  98.3 %

histories    behaviours: mean 43.2, min 0, p50 40, max 1,234
empty        2.1 % of the impressions see no behaviour
own item     60.0 % of the clicked candidates stand in their own history, 3.0 % of the others;
             median 5 s before, measured on 599 impressions
heavy users  '{EVIL}' 3.1 % of all events
missing      city 31.0 %, brand 12.0 %
new          10.7 % of the candidates and 2.4 % of the users of 20240302
days         2 from 20240301 to 20240302: 2,000 impressions, click rate 0.2000; 9 of other days left
             out
records      650, each of a user and day
allowed      own_item
warning: first {EVIL}
warning: second: {"long " * 30}end"""


class _Page(html.parser.HTMLParser):
    """Text, tags and ids of a page; every element must be closed."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.tags, self.ids, self.open = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)


def _page(tmp_path, facts) -> str:
    write_page(facts, str(tmp_path / "report.html"))
    return (tmp_path / "report.html").read_text("utf-8")


def test_the_screen_shows_tables_then_joins_then_a_sentence_a_topic_and_warnings_last():
    assert lines(FACTS) == SCREEN.split("\n")


def test_the_screen_stays_short_and_narrow_for_a_log_of_many_days_tables_joins_and_fields():
    many = {
        **FACTS,
        "tables": {f"{'long' * 30}{i}": FACTS["tables"]["shown.csv"] for i in range(30)},
        "joins": [{"what": f"{'a' * 99}{i}", "rate": i / 30} for i in range(30)],
        "days": {str(20240000 + i): {"examples": 10**9, "clicks": 1} for i in range(905)},
        "missing": {f"field_{i}": i / 400 for i in range(400)},
        "heavy_users": [{"user": i, "events": 0.01} for i in range(90)],
        "warnings": [],
    }
    shown = lines(many)
    assert len(shown) < 105 and max(map(len, shown)) <= 100
    assert "… and 20 more tables" in shown and "… and 20 more joins, which find more" in shown
    assert any("369 more" in line for line in shown)


def test_the_page_shows_every_fact(tmp_path):
    text = " ".join(" ".join(_Page(_page(tmp_path, FACTS)).text).split())
    for shown in (
        "shown.csv impressions 1 600,000 3 10 2024-03-01 00:00:05 2024-03-02 23:59:58 second",
        *("Asia/Shanghai", "no time 2, no user 1", "line 77, no user: ,5", "price 22"),
        *("blank lines: 1", "not found: '17', '18', '19'", f"'017', '{EVIL}'", "1.0 % 6 600"),
        *(
            "clicked 60.0 %",
            "not clicked 3.0 %",
            "Of 599 impressions; median lag 5 s",
            "9 impressions of other days are left out",
            "empty histories 2.1 %",
        ),
        *("mean min p50 max 43.2 0 40 1,234", "city 31.0 % brand 12.0 % price <0.1 %"),
        *("Never missing: sku.", f"{EVIL} 3.1 %", "20240302 800 100 0.1250 10.7 % 2.4 %"),
        "impressions 2,000 records, of a user and day 650",
        *("clicks 400 click rate 0.2000", f"first {EVIL}", "long end"),
        "Allowed by the configuration: own_item",
    ):
        assert shown in text, shown
    assert "Never missing: no field." in _page(tmp_path, {"missing": {"brand": 0.1}})


def test_the_page_is_one_file_without_scripts_whose_plots_take_its_colours(tmp_path):
    content = _page(tmp_path, FACTS)
    page = _Page(content)
    assert page.tags.count("svg") == 3 and not {"script", "link", "img", "b"} & {*page.tags}
    assert not re.search(r"https?:|src=|@import|url\((?!#)", content)
    assert len(page.ids) == len({*page.ids})
    plots = "".join(re.findall(r"<svg.*?</svg>", content, re.DOTALL))
    assert "currentColor" in plots and not re.search(r"#[0-9a-f]{6}\b|DejaVu", plots)
    assert "prefers-color-scheme: dark" in content and content.startswith("<!doctype html>")
    assert _page(tmp_path, json.loads(json.dumps(FACTS))) == content


@pytest.mark.parametrize("key", [*FACTS, None])
def test_what_is_not_known_is_left_out(key, tmp_path):
    for facts in (
        {name: fact for name, fact in FACTS.items() if name != key} if key else {},
        {**FACTS, key: None} if key else dict.fromkeys(FACTS),
        {key: FACTS[key]} if key else {},
    ):
        text = "\n".join([*lines(facts), *_Page(_page(tmp_path, facts)).text])
        assert "None" not in text and "nan" not in text
    if key:
        assert lines(FACTS) != lines({**FACTS, key: None})


def test_what_is_known_by_half_is_shown_by_half(tmp_path):
    facts = {
        "tables": {"a": {}, "b": {"time": None, "first_bad": [{}]}},
        "joins": [{}, {"what": "a in b", "rate": None}],
        "own_item": {"clicked": None, "not_clicked": 0.1},
        "days": {"20240301": {"examples": 0, "click_rate": None}, "no day": {}},
        "new": {"20240301": {}, "20240302": {"users": 0.5}},
        "history_length": {"mean": None, "min": 0, "max": 0},
        "missing": {"brand": None, "city": 0.2},
        "heavy_users": [{}],
    }
    text = "\n".join([*lines(facts), *_Page(_page(tmp_path, facts)).text])
    assert "None" not in text and "nan" not in text and "brand" not in text


@pytest.mark.parametrize(
    ("say", "value", "said"),
    [
        (percent, 0, "0 %"),
        (percent, 1e-9, "<0.1 %"),
        (percent, 0.5, "50.0 %"),
        (percent, 0.99999, ">99.9 %"),
        (percent, 1, "100 %"),
        (percent, None, "–"),
        (count, 0, "0"),
        (count, 1e6, "1,000,000"),
        (quantity, 1234.56, "1,234.6"),
        (quantity, 100, "100"),
        (duration, 90, "90 s"),
        (duration, 7200, "2 h"),
        (duration, 30 * 86_400, "30 days"),
        (duration, -300, "-5 min"),
    ],
)
def test_only_nothing_is_0_percent_and_only_all_is_100(say, value, said):
    assert say(value) == said
