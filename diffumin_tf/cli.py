"""The command line: `diffumin prepare | train | daily | evaluate | predict | export | …`."""

import posixpath
import re
import shlex
import sys
from collections.abc import Callable, Sequence

from absl import flags

from diffumin_tf.terminal import UsageError, exit_code, parse, quietly

_USAGE = """usage: diffumin COMMAND [--flag=value …]

  prepare    raw tables → records     --spec S --input D --output O [--jobs N] [--slice k/n]
  train      train, evaluate, export  --exp exp/user1/X --model_dir M [--set key=value …]
             (started again, it goes on from its last checkpoint)
  daily      day by day: score, train --exp E --model_dir M --first 20220506 --last 20220508
  evaluate   metrics of a trained run --model_dir M [--split test] [--set key=value …]
                                      [--expect exp/user1/X] exits with 1 if they are off, as
                                      [--expect exp/studies/S.json --row R] for a row of a study
  predict    label<TAB>prediction     --model_dir M --output O [--split test] [--header] [--user]
             (no label, no column)    [--passthrough KEY,KEY] [--set test_data_path=D …]
  export     write a SavedModel       --model_dir M [--check] [--keep 5]
  compare    experiments × seeds      --study S --output O [--row R …] [--jobs N], or
                                      --exp A --exp B --seeds 1,2,3 --baseline A --output O
  demo       the whole path on a synthetic log   [--exp NAME] [--model_dir M] [--set key=value …]

`diffumin COMMAND --help` lists the flags of a command.
"""


def _prepare(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("spec", None, "prepare.json: the tables and what to make of them.", values)
    flags.DEFINE_string("input", None, "Folder of the raw tables, if there are any.", values)
    flags.DEFINE_string("output", None, "Folder for <yyyymmdd>/part-*.", values)
    flags.DEFINE_integer("jobs", None, "Processes; as many as are worth it.", 1, flag_values=values)
    flags.DEFINE_string("slice", None, "k/n: only every n-th file; a last run makes days.", values)
    flags.DEFINE_enum("engine", "duckdb", ["duckdb", "spark"], "What joins tables.", values)
    flags.DEFINE_string("master", None, "With --engine spark: its master.", values)
    flags.DEFINE_string("memory_limit", "800MB", "Of DuckDB; the rest goes to the disk.", values)
    flags.DEFINE_enum("print_sql", None, ["duckdb", "spark"], "Only print the join.", values)
    flags.DEFINE_bool("join_only", False, "Write the joined form, not yet records.", values)
    parse(values, "diffumin prepare", argv, ("spec",))
    part = _slice(values.slice or "1/1")
    from diffumin_tf.prepare.command import prepare, print_sql
    from diffumin_tf.prepare.report import screen as report

    if values.print_sql:
        print(print_sql(values.spec, values.print_sql, values.input))
        return
    if values.output is None:
        raise UsageError("diffumin prepare: --output is required")
    engine = values.engine, values.master, values.memory_limit, values.join_only
    manifest = prepare(values.spec, values.input, values.output, values.jobs, part, *engine)
    if values.join_only:
        spec = f"--spec {values.output}/prepare.json --input {values.output}"
        print(f"joined; encode it with: diffumin prepare {spec} --output …")
        return
    if manifest is None:
        print(f"slice {values.slice} is encoded; when all are, run once without --slice")
        return
    print("\n".join(report.lines(report.facts_of(manifest))))
    print(f"page: {posixpath.join(values.output, report.PAGE)}")


def _slice(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"diffumin prepare: --slice {text}: must be k/n with k from 1 to n")
    return int(match[1]), int(match[2])


def _train(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("model_dir", None, "Folder of the run; default model_path.", values)
    _parse_training(values, "diffumin train", argv, ("exp",))
    from diffumin_tf.run.find import find_experiment
    from diffumin_tf.run.train import train

    train(find_experiment(values.exp), values.model_dir, values.set)


def _daily(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("model_dir", None, "Folder for the runs of all days.", values)
    flags.DEFINE_integer("first", None, "First day, yyyymmdd.", flag_values=values)
    flags.DEFINE_integer("last", None, "Last day, yyyymmdd.", flag_values=values)
    _parse_training(values, "diffumin daily", argv, ("exp", "model_dir", "first", "last"))
    from diffumin_tf.run.daily import daily
    from diffumin_tf.run.find import find_experiment

    daily(find_experiment(values.exp), values.model_dir, values.first, values.last, values.set)


def _evaluate(values: flags.FlagValues, argv: Sequence[str]) -> None:
    _define_run(values)
    flags.DEFINE_string("expect", None, "Experiment, or study: check against its figures.", values)
    flags.DEFINE_string("row", None, "With --expect of a study: the row.", values)
    parse(values, "diffumin evaluate", argv, ("model_dir",))
    if values.expect is not None and values.split != "test":
        raise UsageError("diffumin evaluate: --expect goes with --split test")
    if values.row is not None and values.expect is None:
        raise UsageError("diffumin evaluate: --row goes with --expect")
    from diffumin_tf.evaluation import expected
    from diffumin_tf.evaluation.report import metric_lines
    from diffumin_tf.run.find import find_experiment
    from diffumin_tf.run.open import open_run

    wanted = values.expect
    if wanted is not None:
        path = wanted if wanted.endswith(".json") else find_experiment(wanted)
        wanted = expected.read_expected(path, values.row)
    run = open_run(values.model_dir, values.set)
    # Metrics of other data or settings do not belong into the run's metrics.json.
    metrics = run.evaluate([values.split], write=not values.set)
    for line in metric_lines(metrics):
        print(line)
    for line in expected.check(wanted, metrics["test"]) if wanted else ():
        print(line)


def _predict(values: flags.FlagValues, argv: Sequence[str]) -> None:
    _define_run(values)
    flags.DEFINE_string("output", None, "Folder for part-*; must not exist.", values)
    flags.DEFINE_bool("header", False, "Begin each part with a header line.", values)
    flags.DEFINE_bool("user", False, "Add a column with the user, for GAUC.", values)
    what = "Record keys, as in request_id,item_id: further columns, as text; brings --header."
    flags.DEFINE_list("passthrough", [], what, flag_values=values)
    parse(values, "diffumin predict", argv, ("model_dir", "output"))
    from diffumin_tf.run.open import open_run

    run = open_run(values.model_dir, values.set)
    columns = (values.header, values.user, values.passthrough)
    lines, parts = run.predict(values.split, values.output, *columns)
    print(f"{lines:,} predictions in {parts} parts under {values.output}")


def _export(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("model_dir", None, "Folder of a trained run.", values)
    flags.DEFINE_bool("check", False, "Publish only what scores as the model does.", values)
    flags.DEFINE_integer("keep", None, "Versions to keep; all.", 1, flag_values=values)
    parse(values, "diffumin export", argv, ("model_dir",))
    from diffumin_tf.run.open import open_run

    run = open_run(values.model_dir)
    print(f"exported {run.export(values.check, values.keep, print)}")


def _compare(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("study", None, "Study file: experiments, seeds, baseline.", values)
    flags.DEFINE_multi_string("row", [], "With --study: this row alone; repeat it.", values)
    flags.DEFINE_multi_string("exp", [], "Without --study: an experiment; repeat it.", values)
    flags.DEFINE_string("seeds", None, "Without --study: seeds, as in 1,2,3.", values)
    flags.DEFINE_string("baseline", None, "Without --study: compared with; first --exp.", values)
    flags.DEFINE_string("output", None, "Folder for runs and tables.", values)
    flags.DEFINE_integer("jobs", 1, "Runs at a time; more blur speeds.", flag_values=values)
    flags.DEFINE_bool("keep_runs", False, "Keep checkpoints and logs of finished runs.", values)
    _define_overrides(values)
    parse(values, "diffumin compare", argv, ("output",))
    from diffumin_tf.comparison.command import compare
    from diffumin_tf.comparison.study import read_study, study_of

    if (values.study is None) == (not values.exp):
        raise UsageError("diffumin compare: give --study, or --exp and --seeds")
    if values.study is not None:
        if values.seeds or values.baseline:
            raise UsageError("diffumin compare: --seeds and --baseline stand in the study file")
        study = read_study(values.study, values.set, values.row)
    else:
        if values.seeds is None:
            raise UsageError("diffumin compare: --seeds is required with --exp")
        if values.row:
            raise UsageError("diffumin compare: --row goes with --study")
        study = study_of(values.exp, values.seeds, values.baseline, values.set)
    command = shlex.join(["diffumin", "compare", *argv])
    compare(study, values.output, values.jobs, values.keep_runs, command)


def _demo(values: flags.FlagValues, argv: Sequence[str]) -> None:
    flags.DEFINE_string("exp", "Eleme_DiffuMIN", "Experiment whose schema to imitate.", values)
    flags.DEFINE_string("model_dir", "runs/demo", "Folder for the run and its data.", values)
    _define_overrides(values)
    parse(values, "diffumin demo", argv)
    from diffumin_tf.run.demo import demo

    demo(values.exp, values.model_dir, values.set)


COMMANDS: dict[str, Callable[[flags.FlagValues, Sequence[str]], None]] = {
    "prepare": _prepare,
    "train": _train,
    "daily": _daily,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
    "compare": _compare,
    "demo": _demo,
}


def _define_run(values: flags.FlagValues) -> None:
    flags.DEFINE_string("model_dir", None, "Folder of a trained run.", values)
    flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "Which data.", values)
    _define_overrides(values)


def _parse_training(
    values: flags.FlagValues, program: str, argv: Sequence[str], required: Sequence[str]
) -> None:
    """Reads the flags of a command that trains, and joins the cluster that they name."""
    flags.DEFINE_string("exp", None, "Experiment folder, or its name under exp/user1.", values)
    _define_overrides(values)
    flags.DEFINE_enum("job_name", None, ["chief", "worker", "ps"], "Job of this process.", values)
    flags.DEFINE_integer("task_index", 0, "Its index in the job.", flag_values=values)
    for job in ("chief", "worker", "ps"):
        flags.DEFINE_string(f"{job}_hosts", "", f"host:port,… of {job} tasks.", values)
    parse(values, program, argv, required)
    from diffumin_tf.training import cluster

    hosts = (values.chief_hosts, values.worker_hosts, values.ps_hosts)
    if values.job_name is not None:
        cluster.set_environment(values.job_name, values.task_index, *hosts)
    elif any(hosts):
        raise UsageError(f"{program}: --job_name is required with --…_hosts")


def _define_overrides(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("set", [], "key=value, overrides a configuration key.", values)


def main(argv: Sequence[str]) -> int:
    """Runs one command (its name, then its flags) and returns the exit code, see `exit_code`."""
    if not argv or argv[0] in ("help", "--help", "-h"):
        print(_USAGE, end="")
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"diffumin: unknown command {argv[0]!r}\n\n{_USAGE}", end="", file=sys.stderr)
        return 2
    return exit_code(COMMANDS[argv[0]])(flags.FlagValues(), argv[1:])


def run() -> None:
    """Entry point of the console script."""
    with quietly():
        import tensorflow as tf

        if sys.argv[1:2] == ["compare"]:  # before the next lines make this process take the GPU
            from diffumin_tf.comparison.command import leave_gpu_to_runs

            leave_gpu_to_runs()
        # Training chooses devices and cluster first, and does the same after that.
        if sys.argv[1:2] not in (["train"], ["demo"], ["daily"]):
            tf.config.list_logical_devices()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
