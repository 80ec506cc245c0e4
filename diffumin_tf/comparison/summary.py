"""All figures of a comparison, from what its cells left: the content of `comparison.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diffumin_tf.comparison import slices, uncertainty
from diffumin_tf.comparison.cells import Cell, Choice
from diffumin_tf.comparison.study import Study

METRICS = ("auc", "gauc", "logloss", "calibration")
COSTS = (
    "training_samples_per_second scoring_samples_per_second peak_memory_mb peak_gpu_memory_mb "
    "steps seconds"
).split()


def summarise(
    study: Study,
    final: Sequence[Cell],
    chosen: Mapping[str, Choice],
    tried: Mapping[str, list[dict[str, Any]]],
    facts: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """Sums up the cells of the table that finished; experiments without one are left out.

    Args:
        chosen, tried: from `cells.choose`.
        facts: from `slices.read_facts`, of the baseline's samples of the split.

    Returns:
        `baseline`, `split`, `resamples`, `machines`, `code`, and `experiments`: by name
        metrics, costs, differences, slices and the code that it ran.
    """
    finished = {e: [c for c in final if c.experiment == e and c.is_finished] for e in chosen}
    names = [name for name in study.experiments if finished.get(name)]
    results = {name: [cell.result for cell in finished[name]] for name in names}
    scores = {name: {cell.seed: cell.scores for cell in finished[name]} for name in names}
    baseline = scores.get(study.baseline, {})
    reference = next(iter(baseline.values()), None)
    resampled = {seed: uncertainty.resample(s) for seed, s in baseline.items()}
    experiments = {}
    for name, runs in scores.items():
        comparable = all(uncertainty.same_samples(s, reference) for s in runs.values())
        shared = [seed for seed in runs if seed in baseline]
        difference = sliced = None
        if comparable and shared and name != study.baseline:
            pairs = [(uncertainty.resample(runs[seed]), resampled[seed]) for seed in shared]
            difference = {"seeds": shared, **uncertainty.difference(pairs)}
        if comparable and len(reference.labels) == len(facts["history"]):
            of_seeds = list(runs.values())
            sliced = {kind: slices.auc_by_slice(kind, facts[kind], of_seeds) for kind in facts}
        experiments[name] = {
            **_measured(results[name]),
            "set": study.experiments[name].set,
            "chosen": chosen[name],
            "chosen_from": tried.get(name),
            "same_samples": comparable,
            "difference": difference,
            "slices": sliced,
        }
    every = [result for of_seeds in results.values() for result in of_seeds]
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
    entry["jobs"] = [result.get("jobs") for result in results]
    entry["code"] = _distinct(results, "code")
    return entry


def _distinct(results: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """The values that results have under a key, each once."""
    values = [result[key] for result in results]
    return [value for index, value in enumerate(values) if value not in values[:index]]
