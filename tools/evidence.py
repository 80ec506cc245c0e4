"""Runs the studies of exp/studies, on which docs/evidence.md rests.

usage: python tools/evidence.py --output DIR [--kuairand DIR] [--movielens DIR] [--jobs N] [--quick]

Prepares the records and compares: KuaiRand-Pure and MovieLens latest-small where the folders of
their tables are given, and a synthetic log. Each study leaves its tables in DIR/<study>. Run again,
it goes on. Where a run fails, the other studies go on, and the exit code is 1. More --jobs are
faster, but then speeds are those beside other runs.

--quick takes a log of a few hundred samples: three models of the synthetic study with one seed, of
which one chooses between two learning rates, and two rows of its design study; seven runs. It shows
that everything runs and nothing else.
"""

import json
import os
import shlex
import sys
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags

from diffumin_tf.comparison.command import CellsFailed, compare, leave_gpu_to_runs
from diffumin_tf.comparison.study import Study, read_study
from diffumin_tf.prepare.command import prepare
from diffumin_tf.run.experiment import find_experiment
from diffumin_tf.terminal import exit_code, parse

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
# Rows by study. The first one of the first study alone chooses: it is the quickest.
QUICK_ROWS = {
    "synthetic": ["no history", "DIN", "DiffuMIN"],
    "synthetic_design": ["as shipped", "without OMIE, DMIG, CMIC"],
}


def main(argv: list[str]) -> int:
    """Runs what the arguments ask for.

    Returns:
        Exit code: 0 when all of it was done, or what ran was saved after SIGTERM; 1 after an error,
            2
        for wrong usage, 130 when interrupted.
    """
    values = flags.FlagValues()
    flags.DEFINE_string("output", None, "Folder for records and tables.", values)
    flags.DEFINE_string("kuairand", None, "Folder of the KuaiRand tables.", values)
    flags.DEFINE_string("movielens", None, "Folder of the MovieLens tables.", values)
    flags.DEFINE_integer("jobs", 1, "Runs at a time.", flag_values=values)
    flags.DEFINE_bool("quick", False, "A few hundred synthetic samples.", values)
    return exit_code(lambda: _run(values, argv))


def _run(values: flags.FlagValues, argv: list[str]) -> None:
    parse(values, "evidence", argv, ["output"], __doc__)
    leave_gpu_to_runs()
    command = shlex.join(["python", "tools/evidence.py", *argv])
    failed = [s for s, records in _studies(values) if not _compare(s, records, values, command)]
    if failed:
        raise CellsFailed(f"runs failed in {', '.join(failed)}")


def _studies(values: flags.FlagValues) -> Iterator[tuple[str, str]]:
    """Each study with its records, which are prepared when its turn comes."""
    if values.quick:
        records = _quick_log(values.output)
        yield from ((study, records) for study in QUICK_ROWS)
        return
    tables = {"kuairand": values.kuairand, "movielens": values.movielens, "synthetic": None}
    for data, folder in tables.items():
        if data != "synthetic" and not folder:
            print(f"{data}: left out, because --{data} does not say where its tables are")
            continue
        records = os.path.join(values.output, "data", data)
        spec = os.path.join(find_experiment(EXPERIMENTS[data]), "prepare.json")
        prepare(spec, folder, records)
        yield from ((study, records) for study in STUDIES[data])


def _compare(study: str, records: str, values: flags.FlagValues, command: str) -> bool:
    """Runs a study; False where runs of it failed."""
    path = os.path.join(ROOT, "exp", "studies", f"{study}.json")
    read = read_study(path, [f"train_data_path={os.path.abspath(records)}"])
    output = os.path.join(values.output, study)
    print(f"{study} → {output}")
    if values.quick:
        read = _quick(read, QUICK_ROWS[study])
    try:
        compare(read, output, values.jobs, command=command)
    except CellsFailed as error:
        print(f"error: {study}: {error}", file=sys.stderr)
        return False
    return True


def _quick(study: Study, rows: list[str]) -> Study:
    """The study with these rows and one seed; all but the first have the first choice as theirs."""
    fixed = {key: values[0] for key, values in study.choose.items()}
    first, *others = rows
    taken = {first: study.experiments[first]}
    for row in others:
        found = study.experiments[row]
        taken[row] = found.model_copy(update={"set": {**fixed, **found.set}})
    changes = {"experiments": taken, "seeds": study.seeds[:1], "set": {**study.set, **QUICK}}
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
