"""How the run of an experiment is trained, whatever its strategy."""

import contextlib
import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffumin_tf.evaluation.scoring import ReplicaScorer
from diffumin_tf.input.dataset import Batches
from diffumin_tf.input.splits import count_examples, files_of, has_split
from diffumin_tf.model import RankingModel
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run import setup as run_setup
from diffumin_tf.run.warm_start import warm_start
from diffumin_tf.training import checkpoints, optimizers
from diffumin_tf.training.asynchronous.engine import AsynchronousEngine
from diffumin_tf.training.asynchronous.piece_work import AsynchronousState, PieceReader, PieceWork
from diffumin_tf.training.asynchronous.servers import Attendance
from diffumin_tf.training.engine import Engine
from diffumin_tf.training.loop import Schedule, TrainingLoop, TrainingResult
from diffumin_tf.training.preemption import Preemption
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.summaries import Summaries
from diffumin_tf.training.synchronous import SynchronousEngine
from diffumin_tf.training.validation import BackgroundValidation, Validation, WaitingValidation

if TYPE_CHECKING:
    from diffumin_tf.run.experiment import Experiment


class RunTraining:
    """Trains the run of an experiment from the place where it is.

    Args:
        run: the experiment.
        report: takes a line of progress.
    """

    def __init__(self, run: "Experiment", report: Callable[[str], None]) -> None:
        self._run = run
        self._report = report

    def to_the_end(self) -> TrainingResult:
        """Trains what is left; the best weights lie in the folder of the run then.

        Raises:
            TrainingError: the loss is not finite, the disk is full, or a task is lost.
            Preempted: the process was told to end; everything is saved.
        """
        spread = self._run.distribution
        with contextlib.ExitStack() as stack:
            if spread.is_chief:
                checkpoints.clean(self._run.model_dir)
            preemption = stack.enter_context(Preemption().watched())
            stack.enter_context(spread.lost_workers_named())
            if spread.is_asynchronous:
                return self._asynchronously(preemption)
            return self._synchronously(preemption)

    def _synchronously(self, preemption: Preemption) -> TrainingResult:
        config, spread = self._run.config, self._run.distribution
        with spread.strategy.scope():
            model = self._run.new_model() if spread.is_distributed else self._run.model
            optimizers.compile_model(model, config)
        state = TrainingState()
        saved = self._begin(model, state)
        data = self.epochs()
        validation = None
        if has_split(config, "valid"):
            validation = WaitingValidation(self._validation(model), saved)
        engine = SynchronousEngine(model, data, state, spread)
        return self._loop(engine, state, saved, validation, preemption).fit(data.examples)

    def _loop(
        self,
        engine: Engine,
        state: TrainingState,
        saved: checkpoints.Checkpoints,
        validation: Validation | None,
        preemption: Preemption,
    ) -> TrainingLoop:
        spread = self._run.distribution
        logs = posixpath.join(self._run.model_dir, "logs")
        return TrainingLoop(
            engine,
            Schedule.of(self._run.config),
            state,
            saved,
            Summaries(logs if spread.is_chief else None),
            validation,
            spread,
            preemption,
            self._report,
        )

    def _begin(self, model: RankingModel, state: TrainingState) -> checkpoints.Checkpoints:
        """Brings a model to the place where the run is; returns where its states go."""
        config, spread = self._run.config, self._run.distribution
        worker = None if spread.is_chief else spread.name
        saved = checkpoints.Checkpoints(
            self._run.model_dir, model, state, config.keep_checkpoint_max, worker
        )
        if saved.restore(self._report):
            self._report(f"going on from step {state.step}, epoch {state.epoch + 1}")
        elif config.pretrain_model_dir:
            with spread.strategy.scope():
                self._start_from_earlier_run(model)
        return saved

    def _asynchronously(self, preemption: Preemption) -> TrainingResult:
        """Lets the workers of a parameter-server cluster train, from where the run is."""
        config, spread = self._run.config, self._run.distribution
        files = files_of(config, self._run.schema, "train")
        self._run.check.look(files)
        with spread.strategy.scope():
            model = self._run.new_model()
            optimizers.compile_model(model, config)
            # In the scope, so that every worker has a vocabulary of its own.
            path = self._run.new_path(run_setup.row_mapping(config, self._run.model_dir))
        state = AsynchronousState()
        saved = self._begin(model, state)
        reader = PieceReader(config, self._run.schema, path, files, self._run.check)
        work = PieceWork(model, spread.strategy, len(spread.cluster.tasks["worker"]), reader)
        engine = AsynchronousEngine(model, state, work, Attendance(spread.cluster, self._report))
        with contextlib.ExitStack() as stack:
            stack.enter_context(engine.explained())
            validation = None
            if has_split(config, "valid"):
                validation = stack.enter_context(self._background_validation())
            loop = self._loop(engine, state, saved, validation, preemption)
            result = loop.fit(count_examples(config, files))
        self._report(f"updates by worker: {', '.join(map(str, work.counts().by_worker))}")
        return result

    def _background_validation(self) -> BackgroundValidation:
        run = self._run
        run.model.compile(*optimizers.build(run.config))
        return BackgroundValidation(run.model_dir, run.model, run.batches("valid").epoch)

    def _start_from_earlier_run(self, model: RankingModel) -> None:
        config = self._run.config
        vocabulary_path = None
        if config.embedding.kind == "vocabulary":
            vocabulary_path = posixpath.join(self._run.model_dir, run_folder.VOCABULARY)
        taken = warm_start(
            model, config.pretrain_model_dir, config.vars_to_warm_start, vocabulary_path
        )
        self._report(
            f"starting from {config.pretrain_model_dir}: {len(taken.copied)} variables, "
            f"{taken.rows_kept:,} rows of the table kept and {taken.rows_new:,} new"
            + ("" if taken.with_slots else "; the optimisers start afresh")
        )

    def epochs(self) -> Batches:
        """The training split, epoch by epoch."""
        run, config = self._run, self._run.config
        files = files_of(config, run.schema, "train")
        return Batches(
            files,
            run.schema,
            run.path,
            config.batch_size,
            config.user_column,
            (config.shuffle_buffer_size, config.seed),
            input_shards=config.input_shards,
            part=run.distribution.part,
            check=run.check,
            distribute=run.distribution.distribute,
            examples=count_examples(config, files),
        )

    def _validation(self, model: RankingModel) -> Callable[[], dict[str, Any]]:
        """Metrics of the validation split by all replicas of a model."""
        if not self._run.distribution.is_distributed:
            return lambda: self._run.score("valid").metrics()
        scorer = ReplicaScorer(model, self._run.distribution.strategy)
        batches = self._run.batches("valid", distribution=self._run.distribution)

        def validate() -> dict[str, Any]:
            return scorer(batches.epoch(), lambda: batches.spec).metrics()

        return validate
