"""Runs the studies of exp/studies, on which docs/lab/evidence.md rests.

usage: python tools/evidence.py --output DIR [--kuairand DIR] [--movielens DIR] [--jobs N] [--quick]

Prepares the records and compares: KuaiRand-Pure and MovieLens latest-small where the folders of
their tables are given, and a synthetic log. Each study leaves its tables in DIR/<study>. Run again,
it goes on. Where a run fails, the other studies go on, and the exit code is 1. More --jobs are
faster, but then speeds are those beside other runs.

--quick compares two rows of each synthetic study, with one seed, on a log of a few hundred samples:
eight runs. It shows that everything runs and nothing else.
"""

import os
import shlex
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from diffumin_tf.comparison.command import CellsFailed, compare, leave_gpu_to_runs
from diffumin_tf.comparison.study import read_study
from diffumin_tf.files import read_json, write_json
from diffumin_tf.prepare.command import prepare
from diffumin_tf.run.find import find_experiment
from diffumin_tf.terminal import exit_code, parse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
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
QUICK = "seq_len=30 batch_size=64 deep_layers=[8] search_len=5 infer_timesteps=1".split()
QUICK_ROWS = {
    "synthetic": ["DiffuMIN", "DIN"],
    "synthetic_design": ["as shipped", "without OMIE, DMIG, CMIC"],
}


@exit_code
def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("output", None, "Folder for records and tables.", values)
    flags.DEFINE_string("kuairand", None, "Folder of the KuaiRand tables.", values)
    flags.DEFINE_string("movielens", None, "Folder of the MovieLens tables.", values)
    flags.DEFINE_integer("jobs", 1, "Runs at a time.", flag_values=values)
    flags.DEFINE_bool("quick", False, "A few hundred synthetic samples.", values)
    parse(values, "evidence", argv, ["output"], __doc__)
    leave_gpu_to_runs()
    command = shlex.join(["python", "tools/evidence.py", *argv])
    tables = {"kuairand": values.kuairand, "movielens": values.movielens, "synthetic": None}
    failed = []
    for data, folder in tables.items():
        if data != "synthetic" and (values.quick or not folder):
            print(f"{data}: left out; it needs --{data}, and no --quick")
            continue
        records = _records(data, folder, values)
        for study in (data, f"{data}_design"):
            try:
                _compare(study, records, values, command)
            except CellsFailed as error:
                print(f"error: {study}: {error}", file=sys.stderr)
                failed.append(study)
    if failed:
        raise CellsFailed(f"runs failed in {', '.join(failed)}")


def _records(data: str, tables: str | None, values: flags.FlagValues) -> str:
    """Prepares the records of a data set; returns their folder."""
    spec = os.path.join(find_experiment(EXPERIMENTS[data]), "prepare.json")
    if values.quick:
        small = {**read_json(spec), **QUICK_LOG}
        os.makedirs(values.output, exist_ok=True)
        spec = os.path.join(values.output, "quick.json")
        write_json(spec, small)
    records = os.path.abspath(os.path.join(values.output, "data", data))
    prepare(spec, tables, records)
    return records


def _compare(study: str, records: str, values: flags.FlagValues, command: str) -> None:
    path = os.path.join(ROOT, "exp", "studies", f"{study}.json")
    overrides = [f"train_data_path={records}", *(QUICK if values.quick else ())]
    read = read_study(path, overrides, QUICK_ROWS[study] if values.quick else ())
    if values.quick:
        read = read.model_copy(update={"seeds": read.seeds[:1]})
    output = os.path.join(values.output, study)
    print(f"{study} → {output}")
    compare(read, output, values.jobs, command=command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
