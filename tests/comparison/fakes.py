"""Cells that do not train: what they leave is made up, and quickly."""

import json
import pathlib

import numpy as np

from diffumin_tf.comparison.command import compare
from diffumin_tf.comparison.study import read_study
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.files import read_json, write_arrays, write_json
from diffumin_tf.run import folder as run_folder

# How much the scores of an experiment know about the label.
SKILLS = {"strong": 1.2, "weak": 0.6}


class FakeRuns:
    """Stands in for what runs a cell in a process.

    Attributes:
        requests: by slug, what was asked of the cells, in their order.
        trained_before: slugs of cells that found a finished run in their folder.
    """

    def __init__(self, failing=(), valid_auc=lambda request: 0.5, samples=160):
        self.requests, self.failing, self.trained_before = {}, set(failing), []
        self.valid_auc, self.samples = valid_auc, samples

    @property
    def started(self):
        return list(self.requests)

    def __call__(self, path, jobs, tie):
        folder = pathlib.Path(path)
        self.requests[folder.name] = request = read_json(str(folder / "request.json"))
        (folder / "log.txt").write_text(f"{folder.name} was here\n")
        if folder.name in self.failing:
            return 1
        run = folder / "run"
        if run_folder.finished(str(run)):
            self.trained_before.append(folder.name)
        run.mkdir(exist_ok=True)
        run_folder.mark_finished(str(run), {"made up": True})
        result = {
            **{key: request[key] for key in ("experiment", "seed", "scored", "settings")},
            "valid": {"auc": self.valid_auc(request), "gauc": 0.5, "logloss": 0.6},
            "steps": 10,
            "training_samples_per_second": 1000.0 + request["seed"],
            "parameters": {"dense": 1234, "table_rows": 997, "table_dim": 4, "table": 3988},
            "peak_memory_mb": 800.0,
            "peak_gpu_memory_mb": None,
            "seconds": 120.0,
            "jobs": jobs,
            "machine": "abacus, 2 CPUs, TensorFlow 2.21.0",
            "code": {"version": "0.1.0", "commit": "abc"},
        }
        if request["scored"]:
            scores = self.scores(request)
            write_arrays(str(folder / "scores.npz"), vars(scores))
            result |= {request["scored"]: scores.metrics(), "scoring_samples_per_second": 5000.0}
        write_json(str(folder / "cell.json"), result)
        return 0

    def scores(self, request):
        return made_up_scores(request["experiment"], request["seed"], self.samples)


def made_up_scores(experiment, seed, samples=160):
    """Scores whose labels are the same for all, and whose skill is that of the experiment."""
    rng = np.random.default_rng(0)
    labels = (rng.random(samples) < 0.4).astype(np.float32)
    users = rng.integers(0, max(2, samples // 8), samples)
    shared = rng.normal(size=samples)
    own = np.random.default_rng([seed, *experiment.encode()]).normal(size=samples)
    skill = SKILLS.get(experiment, 0.8)
    pctr = 1 / (1 + np.exp(-(skill * labels + 0.8 * shared + 0.4 * own - 0.5)))
    return Scores(labels, pctr.astype(np.float32), users)


def write_study(folder: pathlib.Path, **changes) -> str:
    """A study of two experiments over the small log that lies in the folder."""
    content = {
        "experiments": {
            "strong": {"exp": "exp"},
            "weak": {"exp": "exp", "set": {"use_omie": False, "subseq_len": 0}},
        },
        "baseline": "weak",
        "seeds": [1, 2],
        **changes,
    }
    path = folder / "study.json"
    path.write_text(json.dumps(content))
    return str(path)


def compare_fakes(folder: pathlib.Path, runs: FakeRuns | None = None, **changes) -> dict:
    """Content of `comparison.json` of such a study, without training."""
    study = read_study(write_study(folder, **changes))
    return compare(study, str(folder / "out"), report=print, run_cell=runs or FakeRuns())
