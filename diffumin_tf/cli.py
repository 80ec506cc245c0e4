"""The command line: ``diffumin prepare | train | evaluate | predict | export | demo``."""

import os
import sys
from collections.abc import Callable, Sequence

from absl import flags

from diffumin_tf.errors import DiffuminError

_USAGE = """usage: diffumin COMMAND [--flag=value …]

  prepare    raw tables → records     --spec S --input D --output O
  train      train, evaluate, export  --exp exp/user1/X --model_dir M [--set key=value …]
  evaluate   metrics of a trained run --model_dir M [--split test] [--set key=value …]
  predict    label<TAB>prediction     --model_dir M --output O [--split test] [--header] [--user]
  export     write a SavedModel       --model_dir M
  demo       the whole path on a synthetic log   [--exp NAME] [--model_dir M] [--set key=value …]

`diffumin COMMAND --help` lists the flags of a command.
"""


def _prepare(argv: Sequence[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("spec", None, "prepare.json: the tables and what to make of them.", values)
    flags.DEFINE_string("input", None, "Folder of the raw tables.", values)
    flags.DEFINE_string("output", None, "Folder for <yyyymmdd>/part-*.", values)
    _parse(values, "prepare", argv, required=("spec", "input", "output"))
    from diffumin_tf.data.prepare import prepare

    manifest = prepare(values.spec, values.input, values.output)
    for day, entry in sorted(manifest["days"].items()):
        print(f"{day}: {entry['examples']:,} examples, click rate {entry['click_rate']:.4f}")


def _train(argv: Sequence[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("exp", None, "Experiment folder, or its name under exp/user1.", values)
    flags.DEFINE_string("model_dir", None, "Folder of the run; default model_path.", values)
    _define_overrides(values)
    _parse(values, "train", argv, required=("exp",))
    from diffumin_tf.experiment import Experiment, find_experiment, has_split

    experiment = Experiment.create(find_experiment(values.exp), values.model_dir, values.set)
    result = experiment.train()
    print(f"{result.steps} steps at {result.samples_per_second:,.0f} samples/s")
    splits = [s for s in ("valid", "test") if has_split(experiment.config, s)]
    _print_metrics(experiment.evaluate(splits))
    print(f"exported {experiment.export()}")


def _evaluate(argv: Sequence[str]) -> None:
    values = flags.FlagValues()
    _define_run(values)
    _define_overrides(values)
    _parse(values, "evaluate", argv, required=("model_dir",))
    from diffumin_tf.experiment import Experiment

    experiment = Experiment.open(values.model_dir, values.set)
    # Other data or settings than the run's own do not belong into its metrics.json.
    _print_metrics(experiment.evaluate([values.split], write=not values.set))


def _predict(argv: Sequence[str]) -> None:
    values = flags.FlagValues()
    _define_run(values)
    _define_overrides(values)
    flags.DEFINE_string("output", None, "Folder for part-*; must not exist.", values)
    flags.DEFINE_bool("header", False, "Begin each part with a header line.", values)
    flags.DEFINE_bool("user", False, "Add the user as a third column, for GAUC.", values)
    _parse(values, "predict", argv, required=("model_dir", "output"))
    from diffumin_tf.evaluation.report import write_predictions
    from diffumin_tf.experiment import Experiment

    scores = Experiment.open(values.model_dir, values.set).score(values.split)
    parts = write_predictions(scores, values.output, header=values.header, user=values.user)
    print(f"{len(scores.labels):,} predictions in {parts} parts under {values.output}")


def _export(argv: Sequence[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("model_dir", None, "Folder of a trained run.", values)
    _parse(values, "export", argv, required=("model_dir",))
    from diffumin_tf.experiment import Experiment

    print(f"exported {Experiment.open(values.model_dir).export()}")


def _demo(argv: Sequence[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("exp", "Eleme_DiffuMIN", "Experiment whose schema to imitate.", values)
    flags.DEFINE_string("model_dir", "runs/demo", "Folder for the run and its data.", values)
    _define_overrides(values)
    _parse(values, "demo", argv)
    from diffumin_tf.demo import demo

    demo(values.exp, values.model_dir, values.set)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "export": _export,
    "demo": _demo,
}


def _define_run(values: flags.FlagValues) -> None:
    flags.DEFINE_string("model_dir", None, "Folder of a trained run.", values)
    flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "Which data.", values)


def _define_overrides(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("set", [], "key=value, overrides a configuration key.", values)


class _UsageError(DiffuminError):
    """The command line is wrong."""


def _parse(
    values: flags.FlagValues, command: str, argv: Sequence[str], required: Sequence[str] = ()
) -> None:
    flags.DEFINE_bool("help", False, "Show this help.", values, short_name="h")
    try:
        rest = values([f"diffumin {command}", *argv])
    except flags.Error as error:
        raise _UsageError(f"diffumin {command}: {error}") from None
    if values.help:
        print(f"diffumin {command}")
        for flag in dict.fromkeys(values[name] for name in values):
            default = f" (default: {flag.default})" if flag.default else ""
            print(f"  --{flag.name}: {' '.join(flag.help.split())}{default}")
        raise SystemExit(0)
    if len(rest) > 1:
        raise _UsageError(f"diffumin {command}: unexpected argument {rest[1]!r}")
    for name in required:
        if values[name].value is None:
            raise _UsageError(f"diffumin {command}: --{name} is required")


def _print_metrics(results: dict[str, dict]) -> None:
    for split, metrics in results.items():
        shown = (f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in metrics.items())
        print(f"{split}: {'  '.join(shown)}")


def main(argv: Sequence[str]) -> int:
    """Runs one command.

    Args:
      argv: the command and its flags, without the program's name.

    Returns:
      Exit code: 0 when everything asked for was done, 1 after an error, 2 for wrong usage, 130
      when interrupted.
    """
    if not argv or argv[0] in ("help", "--help", "-h"):
        print(_USAGE, end="")
        return 0 if argv else 2
    if argv[0] not in COMMANDS:
        print(f"diffumin: unknown command {argv[0]!r}\n\n{_USAGE}", end="", file=sys.stderr)
        return 2
    try:
        COMMANDS[argv[0]](argv[1:])
    except _UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except DiffuminError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def run() -> None:
    """Entry point of the console script."""
    _load_tensorflow_quietly()
    sys.exit(main(sys.argv[1:]))


def _load_tensorflow_quietly() -> None:
    """Keeps TensorFlow's C++ notices from burying the progress, unless the user set a level.

    Those written before TensorFlow's log is initialised heed no variable: hence the descriptor.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        import tensorflow as tf

        tf.constant(0)
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


if __name__ == "__main__":
    run()
