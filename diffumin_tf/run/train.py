"""What `diffumin train` does: train, evaluate, export, and note that all of it was done."""

from collections.abc import Callable, Sequence

from diffumin_tf.config import task as config_lib
from diffumin_tf.evaluation.report import metric_lines
from diffumin_tf.input.splits import has_split
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.experiment import Experiment
from diffumin_tf.run.lock import run_lock
from diffumin_tf.training.preemption import Preemption


def train(
    exp: str,
    model_dir: str | None,
    overrides: Sequence[str] = (),
    report: Callable[[str], None] = print,
) -> Experiment:
    """Runs an experiment to its end, from wherever an earlier call with the same arguments came.

    Args:
        exp: experiment folder.
        model_dir: folder of the run, default `model_path` of the configuration.
        overrides: `key=value` texts.
        report: takes a line of progress.

    Returns:
        The experiment; its folder holds metrics and an export.

    Raises:
        Preempted: the process was told to end.
        DiffuminError: something is wrong.
    """
    folder = model_dir or config_lib.load(exp, overrides)[0].model_path
    with Preemption().watched(), run_lock(folder):
        return _train(exp, model_dir, overrides, report)


def _train(
    exp: str, model_dir: str | None, overrides: Sequence[str], report: Callable[[str], None]
) -> Experiment:
    experiment = Experiment.create(exp, model_dir, overrides, report)
    model_dir, is_chief = experiment.model_dir, experiment.distribution.is_chief
    done = run_folder.finished(model_dir)
    if done is not None:
        if is_chief:
            report(f"{model_dir}: finished after {done['steps']} steps; export {done['export']}")
        experiment.distribution.end_together(lambda: True)
        return experiment
    result = experiment.train(report)
    if is_chief:
        report(f"{result.steps} steps at {result.samples_per_second:,.0f} samples/s")
        splits = [s for s in ("valid", "test") if has_split(experiment.config, s)]
        for line in metric_lines(experiment.evaluate(splits)):
            report(line)
        export = experiment.export()
        report(f"exported {export}")
        run_folder.mark_finished(model_dir, {"steps": result.steps, "export": export})
    experiment.distribution.end_together(lambda: run_folder.finished(model_dir) is not None)
    return experiment
