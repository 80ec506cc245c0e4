"""Cells that do not train: what they leave is made up, and quickly."""

import dataclasses
import json
import pathlib

import numpy as np

from diffumin_tf.comparison.cell_folder import CellFolder
from diffumin_tf.evaluation.scoring import Scores
from diffumin_tf.run import folder as run_folder

# How much the scores of an experiment know about the label.
SKILLS = {"strong": 1.2, "weak": 0.6}
MACHINE = {"processor": "abacus", "cpus": 2, "gpu": None, "tensorflow": "2.21.0"}


@dataclasses.dataclass
class FakeProcess:
    """A process that ended at once."""

    code: int
    told: list[str] = dataclasses.field(default_factory=list)

    def poll(self):
        return self.code

    def terminate(self):
        self.told.append("terminate")

    def kill(self):
        self.told.append("kill")

    def wait(self, timeout=None):
        return self.code


class FakeStart:
    """Stands in for `processes.start_cell`.

    Attributes:
        started: slugs, in their order.
        failing: slugs that fail.
        trained_before: slugs of those that found a run in their folder.
        valid_auc: of a cell, from its request.
    """

    def __init__(self, failing=(), valid_auc=lambda request: 0.5, samples=160):
        self.started, self.requests, self.failing = [], [], set(failing)
        self.trained_before = []
        self.valid_auc, self.samples = valid_auc, samples

    def __call__(self, folder, jobs):
        slug = pathlib.Path(folder).name
        self.started.append(slug)
        cell = CellFolder(folder)
        request = cell.request()
        self.requests.append(request)
        pathlib.Path(cell.file("log.txt")).write_text(f"{slug} was here\n")
        if slug in self.failing:
            return FakeProcess(1)
        if run_folder.finished(cell.file("run")):
            self.trained_before.append(slug)
        pathlib.Path(cell.file("run")).mkdir(exist_ok=True)
        run_folder.mark_finished(cell.file("run"), {"made up": True})
        leave_result(cell, request, self.samples, self.valid_auc(request), jobs=jobs)
        return FakeProcess(0)


def leave_result(cell, request, samples=160, valid_auc=0.5, others=0, jobs=1):
    """Writes what a finished cell leaves."""
    result = {
        **{key: request[key] for key in ("experiment", "seed", "scored", "settings")},
        "valid": {"auc": valid_auc, "gauc": 0.5, "logloss": 0.6, "calibration": 1.0},
        "steps": 10,
        "best_step": 10,
        "training_samples_per_second": 1000.0 + request["seed"],
        "parameters": {"dense": 1234, "table_rows": 997, "table_dim": 4, "table": 3988},
        "peak_memory_mb": 800.0,
        "peak_gpu_memory_mb": None,
        "seconds": 120.0,
        "processes": [{"jobs": jobs}],
        "machine": MACHINE,
        "code": {"version": "0.1.0", "commit": "abc"},
    }
    if request["scored"]:
        scores = made_up_scores(request["experiment"], request["seed"], samples, others)
        cell.write_scores(scores)
        result |= {request["scored"]: scores.metrics(), "scoring_samples_per_second": 5000.0}
    else:
        result |= {"scoring_samples_per_second": None}
    cell.write("cell.json", result)


def made_up_scores(experiment, seed, samples=160, others=0):
    """Scores whose labels are the same for all, and whose skill is that of the experiment."""
    rng = np.random.default_rng(others)
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
