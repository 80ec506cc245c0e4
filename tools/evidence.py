"""Runs the studies of exp/studies, on which docs/evidence.md rests.

usage: python tools/evidence.py --output DIR [--kuairand DIR] [--movielens DIR] [--jobs N] [--quick]

Prepares the records and compares: KuaiRand-Pure and MovieLens latest-small where the folders of
their tables are given, and a synthetic log. Each study leaves its tables in DIR/<study>. Run again,
it goes on. --quick trains all models of the synthetic study on a log of a few hundred samples,
which shows that everything runs and nothing else.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from diffumin_tf.comparison.command import compare
from diffumin_tf.comparison.study import Study, read_study
from diffumin_tf.data.prepare import prepare
from diffumin_tf.errors import DiffuminError
from diffumin_tf.experiment import find_experiment

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STUDIES = {
    "kuairand": ["kuairand", "kuairand_design"],
    "movielens": ["movielens", "movielens_design"],
    "synthetic": ["synthetic", "synthetic_design"],
}
EXPERIMENTS = {
    "kuairand": "KuaiRand_DiffuMIN",
    "movielens": "MovieLens_DiffuMIN",
    "synthetic": "Synthetic_DiffuMIN",
}
QUICK_LOG = {
    "samples_per_day": {"20240101": 200, "20240102": 200, "20240103": 100, "20240104": 100},
    "users": 60,
    "items": 200,
    "history_len": 30,
    "min_history_len": 0,
}
QUICK = {"seq_len": 30, "batch_size": 64, "deep_layers": [8], "search_len": 5, "infer_timesteps": 1}


def main(argv: list[str]) -> int:
    """Runs what the arguments ask for; exit code 0 when all of it was done."""
    values = flags.FlagValues()
    flags.DEFINE_string("output", None, "Folder for records and tables.", values)
    flags.DEFINE_string("kuairand", None, "Folder of the KuaiRand tables.", values)
    flags.DEFINE_string("movielens", None, "Folder of the MovieLens tables.", values)
    flags.DEFINE_integer("jobs", os.cpu_count(), "Runs at a time.", flag_values=values)
    flags.DEFINE_bool("quick", False, "A few hundred synthetic samples.", values)
    try:
        rest = values(["evidence", *argv])[1:]
    except flags.Error as error:
        print(f"evidence: {error}", file=sys.stderr)
        return 2
    if rest or not values.output:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        _run(values)
    except DiffuminError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run(values: flags.FlagValues) -> None:
    if values.quick:
        _compare("synthetic", _quick_log(values.output), values, _quick)
        return
    tables = {"kuairand": values.kuairand, "movielens": values.movielens, "synthetic": None}
    for data, folder in tables.items():
        if data != "synthetic" and not folder:
            print(f"{data}: left out, because --{data} does not say where its tables are")
            continue
        records = os.path.join(values.output, "data", data)
        spec = os.path.join(find_experiment(EXPERIMENTS[data]), "prepare.json")
        prepare(spec, folder, records)
        for study in STUDIES[data]:
            _compare(study, records, values)


def _compare(study: str, records: str, values: flags.FlagValues, change=lambda s: s) -> None:
    path = os.path.join(ROOT, "exp", "studies", f"{study}.json")
    read = read_study(path, [f"train_data_path={os.path.abspath(records)}"])
    output = os.path.join(values.output, study)
    print(f"{study} → {output}")
    compare(change(read), output, values.jobs, command="python tools/evidence.py")


def _quick(study: Study) -> Study:
    changes = {"seeds": study.seeds[:1], "choose": {}, "set": {**study.set, **QUICK}}
    return study.model_copy(update=changes)


def _quick_log(output: str) -> str:
    """Records of a log in the way of the synthetic experiment's, only small."""
    with open(os.path.join(find_experiment(EXPERIMENTS["synthetic"]), "prepare.json")) as file:
        spec = {**json.load(file), **QUICK_LOG}
    os.makedirs(output, exist_ok=True)
    path = os.path.join(output, "quick.json")
    with open(path, "w") as file:
        json.dump(spec, file, indent=2)
    records = os.path.join(output, "data", "quick")
    prepare(path, None, records)
    return records


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
