"""All figures of a comparison, from what its cells left: the content of `comparison.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffumin_tf.comparison import slices, uncertainty
from diffumin_tf.comparison.cells import Cell, Choice
from diffumin_tf.comparison.folder import CellFolder
from diffumin_tf.comparison.study import Study

METRICS = ("auc", "gauc", "logloss", "calibration")
COSTS = (
    "training_samples_per_second",
    "scoring_samples_per_second",
    "peak_memory_mb",
    "peak_gpu_memory_mb",
    "steps",
    "seconds",
)


def summarise(
    study: Study,
    finished: Sequence[tuple[Cell, CellFolder]],
    chosen: Mapping[str, Choice],
    tried: Mapping[str, list[dict[str, Any]]],
    facts: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Sums up the cells that finished; experiments without one are left out.

    Args:
        study: what was compared.
        finished: the cells of the table.
        chosen, tried: from `cells.choose`.
        facts: from `slices.read_facts`, of the baseline's samples of the split.

    Returns:
        `baseline`, `split`, `resamples`, `machines`, `code`, and `experiments`: by name
        metrics, costs, differences, slices and the code that it ran.
    """
    results = {name: [f.result for c, f in finished if c.experiment == name] for name in chosen}
    scores = {
        name: {c.seed: f.scores for c, f in finished if c.experiment == name} for name in chosen
    }
    names = [name for name in study.experiments if results.get(name)]
    baseline = scores.get(study.baseline, {})
    reference = next(iter(baseline.values()), None)
    resampled = {seed: uncertainty.resample(s) for seed, s in baseline.items()}
    experiments = {}
    for name in names:
        runs = scores[name]
        comparable = all(uncertainty.same_samples(s, reference) for s in runs.values())
        shared = [seed for seed in runs if seed in baseline]
        difference = sliced = None
        if comparable and shared and name != study.baseline:
            pairs = [(uncertainty.resample(runs[seed]), resampled[seed]) for seed in shared]
            difference = {"seeds": shared, **uncertainty.difference(pairs)}
        if comparable and len(reference.labels) == len(facts["history"]):
            sliced = {
                kind: slices.auc_by_slice(kind, facts[kind], [*runs.values()]) for kind in facts
            }
        experiments[name] = {
            **_measured(results[name]),
            "set": study.experiments[name].set,
            "chosen": chosen[name],
            "chosen_from": tried.get(name),
            "same_samples": comparable,
            "difference": difference,
            "slices": sliced,
        }
    every = [result for name in names for result in results[name]]
    return {
        "baseline": study.baseline,
        "split": study.split,
        "resamples": uncertainty.RESAMPLES,
        "machines": _distinct(every, "machine"),
        "code": _distinct(every, "code"),
        "experiments": experiments,
    }


def _measured(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds of one experiment."""
    entry: dict[str, Any] = {"seeds": [result["seed"] for result in results]}
    for split in ("test", "valid"):
        of_split = [result.get(split) or {} for result in results]
        entry[split] = {m: uncertainty.over_seeds([o.get(m) for o in of_split]) for m in METRICS}
        entry[split]["examples"] = of_split[0].get("examples")
    for cost in COSTS:
        entry[cost] = uncertainty.over_seeds([result.get(cost) for result in results])
    entry["parameters"] = results[0]["parameters"]
    entry["jobs"] = [_jobs(result) for result in results]
    entry["code"] = _distinct(results, "code")
    return entry


def _jobs(result: dict[str, Any]) -> int | None:
    """How many runs shared the machine; None where that is not known."""
    # Cells of version 0.1 list their processes.
    return result.get("jobs") or max((p["jobs"] for p in result.get("processes", ())), default=None)


def _distinct(results: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """The values that results have under a key, each once."""
    found: list[Any] = []
    for result in results:
        if result[key] not in found:
            found.append(result[key])
    return found
