"""The figures that fresh runs should reach, from the runs of a comparison.

usage: python tools/expected_of.py DIR [ROW]

DIR is an output folder of `diffumin compare`. Prints the expected.json of a ROW; without ROW those
of all rows by their names, which is the NAME.expected.json that belongs beside a study NAME.json.
Tolerances are three standard deviations between seeds, and 0.002 at least.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from diffumin_tf.errors import ConfigError, did_you_mean_of
from diffumin_tf.evaluation.expected import expected_of
from diffumin_tf.files import read_json
from diffumin_tf.terminal import UsageError, exit_code


@exit_code
def main(argv: list[str]) -> None:
    if len(argv) not in (1, 2) or argv[0].startswith("-"):
        raise UsageError(__doc__.strip())
    print(json.dumps(_expected(*argv), indent=2))


def _expected(folder: str, row: str | None = None) -> dict:
    path = os.path.join(folder, "comparison.json")
    comparison = read_json(path)
    if comparison["split"] != "test":
        raise ConfigError(f"{path}: split is {comparison['split']!r}, but must be 'test'")
    entries = comparison["experiments"]
    rows = {name: expected_of(entry, comparison["command"]) for name, entry in entries.items()}
    if row is None:
        return rows
    if row not in rows:
        raise ConfigError(f"{path}: no row {row!r}{did_you_mean_of(row, rows)}")
    return rows[row]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
