"""The whole path on a synthetic log: raw log, records, training, evaluation, export, scores."""

import dataclasses
import itertools
import json
import posixpath
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from diffumin_tf import devices
from diffumin_tf.errors import DataError
from diffumin_tf.evaluation import metrics
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.export.check import replayed
from diffumin_tf.export.signatures import EXAMPLES
from diffumin_tf.files import write_text
from diffumin_tf.input.impressions import single_records
from diffumin_tf.input.splits import files_of
from diffumin_tf.lock import LOCK
from diffumin_tf.prepare.command import prepare
from diffumin_tf.prepare.spec import SyntheticSpec
from diffumin_tf.prepare.synthetic import prepare_synthetic
from diffumin_tf.run.find import find_experiment
from diffumin_tf.run.folder import write_metrics
from diffumin_tf.run.lock import run_lock
from diffumin_tf.run.open import Run, create_run
from diffumin_tf.run.setup import Report
from diffumin_tf.run.train import train_run
from diffumin_tf.synthetic.eleme_csv import write_eleme_csv
from diffumin_tf.synthetic.log import Effects, generate

_MARKER = "demo.json"
_SCORED = 10


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Size of a demo, how its records are written, and the settings of its runs.

    `write` returns the true probabilities of the last day, in the order of the records.
    """

    spec: SyntheticSpec
    write: Callable[[SyntheticSpec, str], np.ndarray]
    settings: dict[str, Any]


def _write_synthetic(spec: SyntheticSpec, data: str) -> np.ndarray:
    prepare_synthetic(spec, data)
    return np.load(posixpath.join(data, f"true_probability_{max(spec.samples_per_day)}.npy"))


def _write_eleme(spec: SyntheticSpec, data: str) -> np.ndarray:
    """Raw CSV in the public layout, then the adapter that users run on the public files."""
    log = generate(spec)
    raw, eleme = (posixpath.join(posixpath.dirname(data), n) for n in ("raw", "prepare.json"))
    write_eleme_csv(log, raw)
    write_text(eleme, json.dumps({"adapter": "eleme", "files": "eleme_{yyyymmdd}.csv"}, indent=2))
    prepare(eleme, raw, data)
    return log.true_probability[log.on(log.days[-1])]


def _spec(samples_per_day: dict[str, int], **size: int) -> SyntheticSpec:
    """A log in which popularity speaks loudest and interests come next, as in real ones."""
    effects = Effects(interest=3.0, popularity=1.0, context=0.2, position=0.0, activity=0.2)
    return SyntheticSpec(
        adapter="synthetic", samples_per_day=samples_per_day, effects=effects, **size
    )


def _days(last_train: int, valid: int, test: int) -> dict[str, int]:
    """Settings of the splits of a log that begins with 2024."""
    return {
        "train_data_start": 20240101,
        "train_data_end": last_train,
        "valid_data_start": valid,
        "valid_data_end": valid,
        "test_data_start": test,
        "test_data_end": test,
    }


# Small networks and fast rates, for runs of about a thousand steps.
_SETTINGS = {
    "sample_rate": 1.0,
    "batch_size": 128,
    "learning_rate": 0.01,
    "lazyAdam_learning_rate": 0.001,
    "batch_norm_momentum": 0.9,
    "deep_layers": [256, 128, 64],
    "n_layers": 1,
    "infer_timesteps": 2,
    "start_timestep": 20,
}
_PLANS = {
    "Eleme_DiffuMIN": _Plan(
        _spec(
            {"20240101": 40_000, "20240102": 40_000, "20240103": 40_000}
            | {"20240104": 10_000, "20240105": 20_000},
            users=40_000,
            items=8_000,
            history_len=50,
        ),
        write=_write_eleme,
        settings={**_SETTINGS, **_days(20240103, 20240104, 20240105), "top_p": 40},
    ),
    "Long_term_DiffuMIN": _Plan(
        _spec(
            {"20240101": 20_000, "20240102": 2_000, "20240103": 5_000},
            users=4_000,
            items=4_000,
            history_len=5_000,
        ),
        write=_write_synthetic,
        settings={
            **_SETTINGS,
            **_days(20240101, 20240102, 20240103),
            "epoch": 3,
            "batch_size": 64,
            "shuffle_buffer_size": 2_000,
            "embedding.initial_stddev": 0.2,
            "jit_compile": None,  # on a CPU, a run of minutes does not earn its compilation
            "seq_len": 5_000,
            "top_p": 20,
        },
    ),
}


def demo(
    exp: str, model_dir: str, overrides: Sequence[str] = (), report: Report = print
) -> dict[str, Any]:
    """Makes a log, trains DiffuMIN and the same tower without history on it, scores the export.

    Args:
        exp: `Eleme_DiffuMIN` or `Long_term_DiffuMIN`.
        model_dir: folder of the run; the log, the records and the run without history lie in it
            too. What an earlier demo left there is replaced.

    Returns:
        What `<model_dir>/metrics.json` holds.
    """
    if exp not in _PLANS:
        raise DataError(f"--exp {exp!r}: there is a demo for {' and '.join(_PLANS)}")
    with run_lock(model_dir):
        return _demo(exp, _PLANS[exp], model_dir, overrides, report)


def _demo(
    exp: str, plan: _Plan, model_dir: str, overrides: Sequence[str], report: Report
) -> dict[str, Any]:
    _clear(model_dir)
    samples_per_day = plan.spec.samples_per_day
    report(f"writing a synthetic log of {sum(samples_per_day.values()):,} impressions …")
    data = posixpath.join(model_dir, "data")
    truth = plan.write(plan.spec, data)
    settings = {"train_data_path": data, **plan.settings}
    base = [f"{key}={json.dumps(value)}" for key, value in settings.items()] + list(overrides)

    def trained(folder: str, *changes: str) -> Run:
        run = create_run(find_experiment(exp), folder, [*base, *changes], report)
        train_run(run, report)
        return run

    report("training the tower without history …")
    baseline = trained(
        posixpath.join(model_dir, "without_history"), "use_omie=false", "subseq_len=0"
    )
    without_history = baseline.evaluate(["valid", "test"])["test"]["auc"]
    report("training DiffuMIN …")
    run = trained(model_dir)
    scores = run.score("test")
    results = {
        **run.evaluate(["valid"]),
        "test": scores.metrics(),
        "best_reachable_auc": metrics.auc(scores.labels, truth),
        "no_history_auc": without_history,
    }
    write_metrics(model_dir, results)
    _show_export(run, scores, truth, report)
    report(
        f"test AUC: DiffuMIN {results['test']['auc']:.4f}, the same tower without history "
        f"{without_history:.4f}, best reachable {results['best_reachable_auc']:.4f}\n"
        f"all figures: {posixpath.join(model_dir, 'metrics.json')}"
    )
    return results


def _clear(folder: str) -> None:
    """Empties the folder of an earlier demo, and marks it as a demo's."""
    gfile, marker = tf.io.gfile, posixpath.join(folder, _MARKER)
    names = gfile.listdir(folder) if gfile.isdir(folder) else []
    left = [posixpath.join(folder, name) for name in names if name != LOCK]
    if left and not gfile.exists(marker):
        raise DataError(f"{folder}: not empty and not of a demo; choose another --model_dir")
    for path in left:
        (gfile.rmtree if gfile.isdir(path) else gfile.remove)(path)
    gfile.makedirs(folder)
    write_text(marker, "{}\n")


def _show_export(run: Run, scores: Scores, truth: np.ndarray, report: Report) -> None:
    """Scores the first test samples with the export alone and shows them beside the truth."""
    export, file = run.export(), files_of(run.config, run.schema, "test")[0]
    records = tf.data.TFRecordDataset(file).take(_SCORED).as_numpy_iterator()
    singles = (one for record in records for one in single_records(run.schema, record))
    samples = list(itertools.islice(singles, _SCORED))
    # Objects, because NumPy cuts zero bytes off the ends of byte strings.
    ((_, answer),) = replayed(export, [(EXAMPLES, {"inputs": np.array(samples, dtype=object)})])
    tolerance = 1e-4 if devices.gpus() else 1e-6
    np.testing.assert_allclose(answer["outputs"], scores.pctr[:_SCORED], atol=tolerance)
    report(f"{export}, loaded by TensorFlow alone, on the first {_SCORED} test samples:")
    report("  click  predicted  true probability")
    for label, served, probability in zip(scores.labels, answer["outputs"], truth, strict=False):
        report(f"  {int(label):5d}  {served:9.4f}  {probability:16.4f}")
