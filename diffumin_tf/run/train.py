"""What `diffumin train` does: train, evaluate, export, and note that all of it was done."""

import contextlib
import posixpath
from collections.abc import Callable, Sequence
from typing import Any

from diffumin_tf.config import task as config_lib
from diffumin_tf.evaluation.report import metric_lines
from diffumin_tf.evaluation.scoring import ReplicaScorer
from diffumin_tf.input.splits import count_examples, files_of, has_split
from diffumin_tf.model import RankingModel
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.lock import run_lock
from diffumin_tf.run.open import Run, create_run
from diffumin_tf.run.setup import Report
from diffumin_tf.run.warm_start import warm_start
from diffumin_tf.training import checkpoints, optimizers
from diffumin_tf.training.asynchronous.engine import AsynchronousEngine
from diffumin_tf.training.asynchronous.piece_work import AsynchronousState, PieceReader, PieceWork
from diffumin_tf.training.asynchronous.servers import Attendance
from diffumin_tf.training.checkpoints import Checkpoints
from diffumin_tf.training.engine import Engine
from diffumin_tf.training.loop import Schedule, TrainingLoop, TrainingResult
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.summaries import Summaries
from diffumin_tf.training.synchronous import SynchronousEngine
from diffumin_tf.training.validation import BackgroundValidation, Validation, WaitingValidation


def train(
    exp: str, model_dir: str | None, overrides: Sequence[str] = (), report: Report = print
) -> Run:
    """Runs an experiment to its end, from wherever an earlier call with the same arguments came.

    Returns:
        The run; its folder holds metrics and an export.
    """
    folder = model_dir or config_lib.load(exp, overrides)[0].model_path
    with Preemption().watched(), run_lock(folder):
        run = create_run(exp, model_dir, overrides, report)
        report = run.distribution.chief_report(report)
        done = run_folder.finished(run.model_dir)
        if done is None:
            _to_the_end(run, report)
        else:
            steps, export = done["steps"], done["export"]
            report(f"{run.model_dir}: finished after {steps} steps; export {export}")
        run.distribution.end_together(lambda: run_folder.finished(run.model_dir) is not None)
        return run


def _to_the_end(run: Run, report: Report) -> None:
    if run.distribution.is_chief and run.config.embedding.kind == "vocabulary":
        report(run.loaded)
        for split in ("train", *(s for s in ("valid", "test") if has_split(run.config, s))):
            report(run.rows_missing(split))
    result = train_run(run, report)
    if run.distribution.is_chief:
        report(f"{result.steps} steps at {result.samples_per_second:,.0f} samples/s")
        splits = [s for s in ("valid", "test") if has_split(run.config, s)]
        for line in metric_lines(run.evaluate(splits)):
            report(line)
        export = run.export()
        report(f"exported {export}")
        run_folder.mark_finished(run.model_dir, {"steps": result.steps, "export": export})


def train_run(run: Run, report: Report) -> TrainingResult:
    """Trains from the last checkpoint, if any, to the end; the chief loads the best weights.

    Raises:
        TrainingError: the loss is not finite, the disk is full, or a task is lost.
        Preempted: the process was told to end; everything is saved.
    """
    distribution = run.distribution
    fit = _asynchronously if distribution.is_asynchronous else _synchronously
    if distribution.is_chief:
        checkpoints.clean(run.model_dir)
    with Preemption().watched() as preemption, distribution.lost_workers_named():
        result = fit(run, preemption, distribution.chief_report(report))
    if distribution.is_chief:
        checkpoints.restore_weights(run.model_dir, run.model)
    return result


def _synchronously(run: Run, preemption: Preemption, report: Report) -> TrainingResult:
    config, distribution = run.config, run.distribution
    with distribution.strategy.scope():
        model = run.new_model() if distribution.is_distributed else run.model
        model.compile(*optimizers.build(config))
    state = TrainingState()
    saved = _begin(run, model, state, report)
    data = run.batches(
        "train",
        distribution,
        batch_size=config.batch_size,
        shuffle=(config.shuffle_buffer_size, config.seed),
        samples_per_user=config.samples_per_user,
        input_shards=config.input_shards,
    )
    validation = None
    if has_split(config, "valid"):
        validation = WaitingValidation(_validate(run, model), saved)
    engine = SynchronousEngine(model, data, state, distribution, config.jit_compile)
    loop = _loop(run, engine, state, saved, validation, preemption, report)
    return loop.fit(count_examples(config, data.files))


def _asynchronously(run: Run, preemption: Preemption, report: Report) -> TrainingResult:
    config, distribution = run.config, run.distribution
    files = files_of(config, run.schema, "train")
    run.file_check.look(files)
    with distribution.strategy.scope():
        model = run.new_model()
        model.compile(*optimizers.build(config))
        path, _ = run.new_path()  # in the scope: every worker has a vocabulary of its own
    state = AsynchronousState()
    saved = _begin(run, model, state, report)
    reader = PieceReader(
        run.schema,
        path,
        files,
        run.file_check,
        config.batch_size,
        config.shuffle_buffer_size,
        config.samples_per_user,
        config.input_shards,
        config.user_column,
    )
    cluster = distribution.cluster
    workers = len(cluster.tasks["worker"])
    work = PieceWork(model, distribution.strategy, workers, reader, config.seed)
    engine = AsynchronousEngine(model, state, work, Attendance(cluster, report))
    with engine.explained(), contextlib.ExitStack() as stack:
        validation = None
        if has_split(config, "valid"):
            validation = stack.enter_context(_background_validation(run))
        loop = _loop(run, engine, state, saved, validation, preemption, report)
        result = loop.fit(count_examples(config, files))
    report(f"updates by worker: {', '.join(map(str, work.counts().by_worker))}")
    return result


def _loop(
    run: Run,
    engine: Engine,
    state: TrainingState,
    saved: Checkpoints,
    validation: Validation | None,
    preemption: Preemption,
    report: Report,
) -> TrainingLoop:
    distribution, schedule = run.distribution, Schedule.of(run.config)
    summaries = Summaries(f"{run.model_dir}/logs" if distribution.is_chief else None)
    return TrainingLoop(
        engine, schedule, state, saved, summaries, validation, distribution, preemption, report
    )


def _begin(run: Run, model: RankingModel, state: TrainingState, report: Report) -> Checkpoints:
    """Brings a model to where the run is; returns where its states go."""
    config, distribution = run.config, run.distribution
    worker = None if distribution.is_chief else distribution.name
    saved = Checkpoints(run.model_dir, model, state, config.keep_checkpoint_max, worker)
    if saved.restore(report):
        report(f"going on from step {state.step}, epoch {state.epoch + 1}")
    elif config.pretrain_model_dir:
        with distribution.strategy.scope():
            _start_from_earlier_run(run, model, report)
    return saved


def _start_from_earlier_run(run: Run, model: RankingModel, report: Report) -> None:
    config = run.config
    vocabulary_path = None
    if config.embedding.kind == "vocabulary":
        vocabulary_path = posixpath.join(run.model_dir, run_folder.VOCABULARY)
    taken = warm_start(model, config.pretrain_model_dir, config.vars_to_warm_start, vocabulary_path)
    report(
        f"starting from {config.pretrain_model_dir}: {len(taken.copied)} variables, "
        f"{taken.rows_kept:,} rows of the table kept and {taken.rows_new:,} new"
        + ("" if taken.with_slots else "; the optimisers start afresh")
    )


def _validate(run: Run, model: RankingModel) -> Callable[[], dict[str, Any]]:
    """Metrics of the validation split by all replicas of a model."""
    distribution = run.distribution
    if not distribution.is_distributed:
        return lambda: run.score("valid").metrics()
    scorer = ReplicaScorer(model, distribution.strategy)
    batches = run.batches("valid", distribution)
    return lambda: scorer(batches.epoch(), lambda: batches.spec).metrics()


def _background_validation(run: Run) -> BackgroundValidation:
    run.model.compile(*optimizers.build(run.config))
    return BackgroundValidation(run.model_dir, run.model, run.batches("valid").epoch)
