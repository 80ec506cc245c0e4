"""All figures of a comparison, from what its cells left: the content of `comparison.json`."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffumin_tf.comparison import slices, uncertainty
from diffumin_tf.comparison.cell_folder import CellFolder
from diffumin_tf.comparison.sample_facts import SampleFacts
from diffumin_tf.comparison.study import Study
from diffumin_tf.comparison.uncertainty import Draws
from diffumin_tf.evaluation.scoring import Scores

METRICS = ("auc", "gauc", "logloss", "calibration")
COSTS = (
    "training_samples_per_second",
    "scoring_samples_per_second",
    "peak_memory_mb",
    "peak_gpu_memory_mb",
    "steps",
    "seconds",
)

# By experiment and seed.
Finished = Mapping[str, Mapping[int, CellFolder]]


def summarise(
    study: Study,
    finished: Finished,
    chosen: Mapping[str, dict[str, Any]],
    tried: Mapping[str, list[dict[str, Any]]],
    facts: SampleFacts,
) -> dict[str, Any]:
    """Sums up the cells that finished.

    Args:
        study: what was compared.
        finished: the cells; experiments without one are left out.
        chosen, tried: from `cells.choose`.
        facts: of the baseline's samples of the split.

    Returns:
        `baseline`, `split`, `resamples`, `machines`, `code`, and `experiments`: by name
        metrics, costs, differences, slices and the code that it ran.
    """
    names = [name for name in study.experiments if finished.get(name)]
    scores = {name: {s: f.scores() for s, f in finished[name].items()} for name in names}
    baseline = scores.get(study.baseline)
    reference = next(iter(baseline.values())) if baseline else None
    draws = Draws(list(baseline.values())) if baseline else None
    results = {name: [f.result() for f in finished[name].values()] for name in names}
    experiments = {}
    for name in names:
        entry = _measured(results[name])
        entry["set"] = study.experiments[name].set
        entry["chosen"] = chosen[name]
        entry["chosen_from"] = tried.get(name)
        comparable = reference is not None and all(
            uncertainty.same_samples(s, reference) for s in scores[name].values()
        )
        entry["same_samples"] = comparable
        entry["difference"] = None
        if comparable and name != study.baseline:
            entry["difference"] = _difference(scores[name], baseline, draws)
        entry["slices"] = _slices(list(scores[name].values()), facts) if comparable else None
        experiments[name] = entry
    every = [result for some in results.values() for result in some]
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
        found = [result.get(split) or {} for result in results]
        entry[split] = {m: uncertainty.over_seeds([f.get(m) for f in found]) for m in METRICS}
        entry[split]["examples"] = found[0].get("examples")
    for cost in COSTS:
        entry[cost] = uncertainty.over_seeds([result[cost] for result in results])
    entry["parameters"] = results[0]["parameters"]
    entry["jobs"] = [_jobs(result) for result in results]
    entry["code"] = _distinct(results, "code")
    return entry


def _jobs(result: dict[str, Any]) -> int | None:
    """How many runs shared the machine at most with this one; None where nobody told it."""
    return max((p["jobs"] for p in result.get("processes", ()) if p["jobs"]), default=None)


def _distinct(results: Sequence[dict[str, Any]], key: str) -> list[Any]:
    """The values that results have under a key, each once."""
    found: list[Any] = []
    for result in results:
        if result[key] not in found:
            found.append(result[key])
    return found


def _difference(
    own: Mapping[int, Scores], baseline: Mapping[int, Scores], draws: Draws
) -> dict[str, Any] | None:
    """Paired differences over the seeds that both have; None where they share none."""
    shared = [seed for seed in own if seed in baseline]
    if not shared:
        return None
    mine, theirs = list(own), list(baseline)
    found = Draws(list(own.values())).difference(
        draws, [mine.index(s) for s in shared], [theirs.index(s) for s in shared]
    )
    return {"seeds": shared, **found}


def _slices(scores: Sequence[Scores], facts: SampleFacts) -> dict[str, Any] | None:
    """AUC by slice; None where the samples were not those that the facts are about."""
    labels, predictions = scores[0].labels, [s.pctr for s in scores]
    if len(labels) != len(facts.history):
        return None
    return {
        "history": slices.auc_by(slices.HISTORY, facts.history, labels, predictions),
        "popularity": slices.auc_by(slices.POPULARITY, facts.sightings, labels, predictions),
    }
