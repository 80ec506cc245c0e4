"""The expected.json of an experiment, from the runs of a comparison.

usage: python tools/expected_of.py DIR [EXPERIMENT]

DIR is an output folder of `diffumin compare`; EXPERIMENT is a name in its table, by default the
baseline. Tolerances are three standard deviations between seeds, and 0.002 at least.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from diffumin_tf.errors import ConfigError, did_you_mean
from diffumin_tf.evaluation.expected import expected_of
from diffumin_tf.files import read_json
from diffumin_tf.terminal import exit_code


def main(argv: list[str]) -> int:
    if len(argv) not in (1, 2) or argv[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    return exit_code(lambda: print(json.dumps(_expected(*argv), indent=2)))


def _expected(folder: str, name: str | None = None) -> dict:
    path = os.path.join(folder, "comparison.json")
    comparison = read_json(path)
    if comparison["split"] != "test":
        raise ConfigError(
            f"{path}: split is {comparison['split']!r}; what a run should reach is taken from test "
            "days"
        )
    name, known = name or comparison["baseline"], comparison["experiments"]
    if name not in known:
        near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
        raise ConfigError(f"{path}: no experiment {name!r}{near}")
    return expected_of(known[name], comparison["command"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
