"""`comparison.md`: the figures of a comparison for people."""

from collections.abc import Sequence
from typing import Any

from diffumin_tf.comparison.markdown import (
    NOTHING,
    SPLITS,
    interval,
    number,
    settings,
    signed,
    spread,
    table,
)
from diffumin_tf.comparison.slices import TITLES

_DIFFERENCES = {
    "auc": ("AUC", "samples"),
    "auc_by_users": ("AUC", "users"),
    "gauc": ("GAUC", "users"),
}


def markdown(comparison: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """The content of `comparison.json` as tables, with words on how to read them.

    Args:
        comparison: the content.
        pictures: names of files that lie beside it.
    """
    blocks = [
        f"# Comparison with {comparison['baseline']}",
        _origin(comparison),
        *_mixed_code(comparison),
        *_failed(comparison),
        *_quality(comparison),
        *_differences(comparison),
        *_costs(comparison),
        *_sliced(comparison),
        *_choices(comparison),
        *(f"![{name.partition('.')[0]}]({name})" for name in pictures),
    ]
    return "\n\n".join(blocks) + "\n"


def _origin(comparison: dict[str, Any]) -> str:
    """Where the figures come from."""
    machines = "; ".join(
        f"{m['processor']}, {m['cpus']} CPUs{', ' + m['gpu'] if m['gpu'] else ''}, "
        f"TensorFlow {m['tensorflow']}"
        for m in comparison["machines"]
    )
    return f"`{comparison['command']}`\n\n{machines}; {_code(comparison['code'])}."


def _code(ran: Sequence[dict[str, Any]]) -> str:
    return "; ".join(
        f"diffumin_tf {c['version'] or '?'}" + (f", commit {c['commit']}" if c["commit"] else "")
        for c in ran
    )


def _mixed_code(comparison: dict[str, Any]) -> list[str]:
    if len(comparison["code"]) < 2:
        return []
    lines = [f"* {name}: {_code(e['code'])}" for name, e in comparison["experiments"].items()]
    told = "**Not all runs are of the same code; a difference may come from that:**"
    return [f"{told}\n\n" + "\n".join(lines)]


def _failed(comparison: dict[str, Any]) -> list[str]:
    if not comparison["failed"]:
        return []
    lines = [f"* {slug}: {why}" for slug, why in comparison["failed"].items()]
    return ["**Runs that failed, and are missing below:**\n\n" + "\n".join(lines)]


def _quality(comparison: dict[str, Any]) -> list[str]:
    split = comparison["split"]
    metrics = {"AUC": (split, "auc"), "GAUC": (split, "gauc"), "log loss": (split, "logloss")}
    metrics["calibration"] = split, "calibration"
    if split != "valid":
        metrics["validation AUC"] = "valid", "auc"
    rows = [
        [name, f"{len(e['seeds'])}", *(spread(e[where][m], 4) for where, m in metrics.values())]
        for name, e in comparison["experiments"].items()
    ]
    samples = [e[split]["examples"] for e in comparison["experiments"].values()]
    told = f" of {samples[0]:,} samples" if len({*samples}) == 1 else ""
    told += "" if split == "valid" else ", but for the last column"
    return [
        f"## {SPLITS[split].capitalize()} split",
        table(["experiment", "seeds", *metrics], rows),
        f"On the {SPLITS[split]} split{told}: mean ± standard deviation over seeds. "
        "Log loss in nats; calibration: mean prediction / mean label." + _seen(split),
    ]


def _seen(split: str) -> str:
    if split != "valid":
        return ""
    return (
        " No run had a test split. Each kept the weights of its best validation AUC: these figures "
        "are a little better than those on days that nobody looked at."
    )


def _differences(comparison: dict[str, Any]) -> list[str]:
    rows = []
    for name, entry in comparison["experiments"].items():
        for metric, (label, unit) in _DIFFERENCES.items():
            found = (entry["difference"] or {}).get(metric)
            if found:
                rows.append([name, label, unit, signed(found["mean"]), *_uncertain(found)])
    if not rows:
        return _apart(comparison)
    baseline, resamples = comparison["baseline"], comparison["resamples"]
    split = SPLITS[comparison["split"]]
    header = ["experiment", "metric", "resampled", f"minus {baseline}", "95 % resampled"]
    header += ["s.e. resampled", "95 % between seeds", "s.e. between seeds", "seeds"]
    return [
        f"## Difference to {baseline}",
        table(header, rows, texts=3),
        *_apart(comparison),
        "Mean over the seeds that both have; runs of the same seed are subtracted from each other "
        f"on the same samples of the {split} split. Two sources of chance stand apart:\n\n"
        f"* *resampled*: other samples, or other users with all their samples, drawn "
        f"{resamples:,} times with replacement (paired bootstrap, percentiles 2.5 and 97.5); the "
        "trained models stay as they are. Samples of one user depend on each other: where the two "
        "intervals of AUC differ, that by users holds for new users.\n"
        "* *between seeds*: other initial weights and orders of the samples (Student's t on the "
        "differences, one a seed); the samples stay as they are.\n\n"
        "A difference is beyond chance where both intervals leave out 0. s.e.: standard error.",
    ]


def _apart(comparison: dict[str, Any]) -> list[str]:
    """Says which experiments cannot be compared sample by sample."""
    apart = [n for n, e in comparison["experiments"].items() if not e["same_samples"]]
    if not apart:
        return []
    return [
        f"Not here: {', '.join(apart)}, scored on other samples than the baseline, or without "
        "a finished run of the baseline."
    ]


def _uncertain(found: dict[str, Any]) -> list[str]:
    drawn, seeds = found["resampled"], found["between_seeds"]
    cells = [interval(drawn["low"], drawn["high"]), f"{drawn['standard_error']:.4f}"]
    if seeds is None:
        cells += [NOTHING, NOTHING]
    else:
        cells += [interval(seeds["low"], seeds["high"]), f"{seeds['standard_error']:.4f}"]
    return [*cells, f"{len(found['values'])}"]


def _costs(comparison: dict[str, Any]) -> list[str]:
    entries = comparison["experiments"]
    on_gpu = any(entry["peak_gpu_memory_mb"] for entry in entries.values())
    header = ["experiment", "training, samples/s", "scoring, samples/s", "dense weights"]
    header += ["embedding table", "peak memory, MB", *(["of the GPU, MB"] if on_gpu else [])]
    header += ["steps", "minutes"]
    rows = []
    for name, entry in entries.items():
        size = entry["parameters"]
        row = [name]
        row += [spread(entry[f"{kind}_samples_per_second"], 0) for kind in ("training", "scoring")]
        row += [f"{size['dense']:,}"]
        row += [f"{size['table']:,} ({size['table_rows']:,} × {size['table_dim']})"]
        row += [spread(entry["peak_memory_mb"], 0)]
        row += [spread(entry["peak_gpu_memory_mb"], 0)] if on_gpu else []
        row += [spread(entry["steps"], 0), spread(entry["seconds"], 1, per=60)]
        rows.append(row)
    return [
        "## Costs",
        table(header, rows),
        "Mean ± standard deviation over seeds. Training: as the trainer counts, the first step and "
        "validation left out. Scoring: a pass over that split after one to warm up, reading "
        "included. Peak memory is that of the whole process, Python and TensorFlow included. "
        "Minutes are those of all processes of a run that was cut and went on." + _beside(entries),
    ]


def _beside(entries: dict[str, Any]) -> str:
    """Says how many runs shared the machine, if any did, and which."""
    shared = {
        name: max((jobs for jobs in e["jobs"] if jobs), default=1) for name, e in entries.items()
    }
    shared = {name: jobs for name, jobs in shared.items() if jobs > 1}
    if not shared:
        return ""
    which = "" if len(shared) == len(entries) else f" ({', '.join(shared)})"
    return (
        f" **Up to {max(shared.values())} runs shared the machine{which}, each on its share of the "
        "cores: speeds were measured beside other runs.**"
    )


def _sliced(comparison: dict[str, Any]) -> list[str]:
    blocks, split = [], SPLITS[comparison["split"]]
    for key, (title, unit) in TITLES.items():
        found = {n: e["slices"][key] for n, e in comparison["experiments"].items() if e["slices"]}
        if not found:
            continue
        buckets = next(iter(found.values()))
        rows = [
            ["samples", *(f"{row['samples']:,}" for row in buckets)],
            ["clicks", *(f"{row['clicks']:,}" for row in buckets)],
            *([name, *(number(row["auc"], 4) for row in rows)] for name, rows in found.items()),
        ]
        what = f"{unit} (`{comparison['popularity_feature']}`)" if key == "popularity" else unit
        blocks += [
            f"## AUC by {title}",
            table([unit, *(row["bucket"] for row in buckets)], rows),
            f"Samples of the {split} split by {what}; mean AUC over seeds. Differences within "
            "a slice are as uncertain as it is small.",
        ]
    return blocks


def _choices(comparison: dict[str, Any]) -> list[str]:
    rows = []
    for name, entry in comparison["experiments"].items():
        for tried in entry["chosen_from"] or ():
            areas = tried["valid_auc"]
            mean = NOTHING if None in areas else f"{sum(areas) / len(areas):.4f}"
            is_chosen = "chosen" if tried["settings"] == entry["chosen"] else ""
            rows.append([name, settings(tried["settings"]), is_chosen, mean])
    own = [[n, settings(e["set"])] for n, e in comparison["experiments"].items() if e["set"]]
    blocks = []
    if rows:
        blocks = [
            "## Settings that were chosen",
            table(["experiment", "settings", "", "validation AUC"], rows, texts=3),
            "Chosen by the mean validation AUC alone (seeds "
            f"{', '.join(map(str, comparison['study']['choose_seeds']))}); the test split was not "
            "looked at. All chose from the same grid, but for what an experiment sets itself.",
        ]
    if own:
        blocks += ["## Settings of the experiments", table(["experiment", "sets"], own, texts=2)]
    return blocks
