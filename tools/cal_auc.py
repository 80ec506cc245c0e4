"""Exact AUC, GAUC and log loss of predictions on disk.

usage: python tools/cal_auc.py PREDICTIONS

PREDICTIONS is a folder of part-* as `diffumin predict` writes it, a file, or a quoted glob; lines
are label<TAB>prediction, and a third column with the user gives GAUC.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from diffumin_tf.evaluation.report import read_predictions
from diffumin_tf.terminal import UsageError, exit_code


@exit_code
def main(argv: list[str]) -> None:
    if len(argv) != 1 or argv[0].startswith("-"):
        raise UsageError(__doc__.strip())
    print(json.dumps(read_predictions(argv[0]).metrics(), indent=2))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
