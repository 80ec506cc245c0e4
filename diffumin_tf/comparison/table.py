"""`comparison.md`: the figures of a comparison for people."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from diffumin_tf.comparison.slices import SLICINGS

NOTHING = "–"
SPLITS = {"test": "test", "valid": "validation"}
# By metric of a difference: its name, and what is resampled.
_DIFFERENCES = {"auc": "AUC samples", "auc_by_users": "AUC users", "gauc": "GAUC users"}
_SEEN = """ No run had a test split. Each kept the weights of its best validation AUC: these \
figures are a little better than those on days that nobody looked at."""
_HOW_TO_READ = """\
Mean over the seeds that both have; runs of the same seed are subtracted from each other on the \
same samples of the {split} split. Two sources of chance stand apart:

* *resampled*: other samples, or other users with all their samples, drawn {resamples:,} times \
with replacement (paired bootstrap, percentiles 2.5 and 97.5); the trained models stay as they \
are. Samples of one user depend on each other: where the two intervals of AUC differ, that by \
users holds for new users.
* *between seeds*: other initial weights and orders of the samples (Student's t on the \
differences, one a seed); the samples stay as they are.

A difference is beyond chance where both intervals leave out 0. s.e.: standard error."""
_APART = ", scored on other samples than the baseline, or without a finished run of the baseline."
_COSTS = """Mean ± standard deviation over seeds. Training: as the trainer counts, the first step \
and validation left out. Scoring: a pass over that split after one to warm up, reading included. \
Peak memory (of the whole process, Python and TensorFlow included) and minutes are those of \
training; minutes of a run that was cut and went on are not known."""


def markdown(comparison: dict[str, Any], pictures: Sequence[str] = ()) -> str:
    """The content of `comparison.json` as tables; `pictures` are files that lie beside them."""
    blocks = [
        f"# Comparison with {comparison['baseline']}",
        *_origin(comparison),
        *_quality(comparison),
        *_differences(comparison),
        *_costs(comparison),
        *_slices(comparison),
        *_settings(comparison),
        *(f"![{name.partition('.')[0]}]({name})" for name in pictures),
    ]
    return "\n\n".join(blocks) + "\n"


def table(rows: Sequence[Mapping[str, str]], texts: int = 1) -> str:
    """Rows of cells by column in Markdown; the first `texts` columns are text, others numbers."""
    frame = pd.DataFrame(rows)
    marks = ["---" if index < texts else "---:" for index in range(frame.shape[1])]
    header, *lines = (
        "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        for cells in (frame.columns, *frame.to_numpy())
    )
    return "\n".join([header, "|" + "|".join(marks) + "|", *lines])


def number(value: float | None, digits: int = 4) -> str:
    """A number, or a dash where it is not known."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def mean_sd(statistic: Mapping[str, Any] | None, digits: int = 4, unit: float = 1) -> str:
    """What `uncertainty.over_seeds` made, in units of `unit`: `mean ± standard deviation`."""
    if statistic is None:
        return NOTHING
    known = [statistic[key] / unit for key in ("mean", "sd") if statistic[key] is not None]
    return " ± ".join(f"{value:,.{digits}f}" for value in known)


def settings(values: Mapping[str, Any]) -> str:
    """`key=value, …`"""
    texts = {k: f"{v:g}" if isinstance(v, float) else v for k, v in values.items()}
    return ", ".join(f"{key}={text}" for key, text in texts.items())


def _origin(comparison: dict[str, Any]) -> list[str]:
    """Where the figures come from, and what must be known about them first."""
    machines = "; ".join(map(str, comparison["machines"]))
    blocks = [f"`{comparison['command']}`", f"{machines}; {_code(comparison['code'])}."]
    if len(comparison["code"]) > 1:
        of_rows = {name: _code(e["code"]) for name, e in comparison["experiments"].items()}
        blocks.append("**Not all runs are of the same code; a difference may come from that:**")
        blocks.append("\n".join(f"* {name}: {code}" for name, code in of_rows.items()))
    if comparison["failed"]:
        blocks.append("**Runs that failed, and are missing below:**")
        blocks.append("\n".join(f"* {slug}: {why}" for slug, why in comparison["failed"].items()))
    return blocks


def _code(versions: Sequence[dict[str, Any]]) -> str:
    return "; ".join(
        f"diffumin_tf {c['version'] or '?'}" + (f", commit {c['commit']}" if c["commit"] else "")
        for c in versions
    )


def _quality(comparison: dict[str, Any]) -> list[str]:
    split, entries = comparison["split"], comparison["experiments"]
    columns = {"AUC": (split, "auc"), "GAUC": (split, "gauc"), "log loss": (split, "logloss")}
    columns["calibration"] = split, "calibration"
    if split != "valid":
        columns["validation AUC"] = "valid", "auc"
    rows = [
        {"experiment": name, "seeds": f"{len(entry['seeds'])}"}
        | {column: mean_sd(entry[where][metric]) for column, (where, metric) in columns.items()}
        for name, entry in entries.items()
    ]
    examples = {entry[split]["examples"] for entry in entries.values()}
    words = f"On the {SPLITS[split]} split"
    words += f" of {examples.pop():,} samples" if len(examples) == 1 else ""
    words += "" if split == "valid" else ", but for the last column"
    words += ": mean ± standard deviation over seeds. "
    words += "Log loss in nats; calibration: mean prediction / mean label."
    words += _SEEN if split == "valid" else ""
    return [f"## {SPLITS[split].capitalize()} split", table(rows), words]


def _differences(comparison: dict[str, Any]) -> list[str]:
    baseline, experiments = comparison["baseline"], comparison["experiments"]
    rows = []
    for name, entry in experiments.items():
        for metric, words in _DIFFERENCES.items():
            if found := (entry["difference"] or {}).get(metric):
                label, unit = words.split()
                row = {"experiment": name, "metric": label, "resampled": unit}
                row[f"minus {baseline}"] = signed(found["mean"])
                for source in ("resampled", "between_seeds"):
                    row |= _uncertainty(source.replace("_", " "), found[source])
                rows.append({**row, "seeds": f"{len(found['values'])}"})
    apart = [name for name, entry in experiments.items() if not entry["same_samples"]]
    blocks = [f"## Difference to {baseline}", table(rows, texts=3)] if rows else []
    if apart:
        blocks.append(f"Not here: {', '.join(apart)}{_APART}")
    if rows:
        split = SPLITS[comparison["split"]]
        blocks.append(_HOW_TO_READ.format(split=split, resamples=comparison["resamples"]))
    return blocks


def _uncertainty(source: str, found: Mapping[str, float] | None) -> dict[str, str]:
    interval = error = NOTHING
    if found:
        interval = f"[{signed(found['low'])}, {signed(found['high'])}]"
        error = f"{found['standard_error']:.4f}"
    return {f"95 % {source}": interval, f"s.e. {source}": error}


def _costs(comparison: dict[str, Any]) -> list[str]:
    entries, rows = comparison["experiments"], []
    has_gpu = any(entry["peak_gpu_memory_mb"] for entry in entries.values())
    for name, entry in entries.items():
        size, row = entry["parameters"], {"experiment": name}
        for kind in ("training", "scoring"):
            row[f"{kind}, samples/s"] = mean_sd(entry[f"{kind}_samples_per_second"], 0)
        row["dense weights"] = f"{size['dense']:,}"
        row["embedding table"] = "{table:,} ({table_rows:,} × {table_dim})".format(**size)
        row["peak memory, MB"] = mean_sd(entry["peak_memory_mb"], 0)
        if has_gpu:
            row["of the GPU, MB"] = mean_sd(entry["peak_gpu_memory_mb"], 0)
        row["steps"] = mean_sd(entry["steps"], 0)
        row["minutes"] = mean_sd(entry["seconds"], 1, unit=60)
        rows.append(row)
    shared = {name: max((j for j in e["jobs"] if j), default=1) for name, e in entries.items()}
    beside, words = [name for name, jobs in shared.items() if jobs > 1], _COSTS
    if beside:
        which = "" if len(beside) == len(entries) else f" ({', '.join(beside)})"
        words += f" **Up to {max(shared.values())} runs shared the machine{which}, each on its "
        words += "share of the cores: speeds were measured beside other runs.**"
    return ["## Costs", table(rows), words]


def _slices(comparison: dict[str, Any]) -> list[str]:
    blocks, split = [], SPLITS[comparison["split"]]
    sliced = {n: e["slices"] for n, e in comparison["experiments"].items() if e["slices"]}
    for kind, (title, unit, _) in SLICINGS.items() if sliced else ():
        first, rows = next(iter(sliced.values()))[kind], []
        for count in ("samples", "clicks"):
            rows.append({unit: count, **{s["bucket"]: f"{s[count]:,}" for s in first}})
        for name, slices in sliced.items():
            rows.append({unit: name, **{s["bucket"]: number(s["auc"]) for s in slices[kind]}})
        column = f" (`{comparison['popularity_feature']}`)" if kind == "popularity" else ""
        blocks += [
            f"## AUC by {title}",
            table(rows),
            f"Samples of the {split} split by {unit}{column}; mean AUC over seeds. Differences "
            "within a slice are as uncertain as it is small.",
        ]
    return blocks


def _settings(comparison: dict[str, Any]) -> list[str]:
    tried, fixed = [], []
    for name, entry in comparison["experiments"].items():
        for option in entry["chosen_from"] or ():
            areas, chosen = option["valid_auc"], option["settings"] == entry["chosen"]
            mean = None if None in areas else sum(areas) / len(areas)
            row = {"experiment": name, "settings": settings(option["settings"])}
            tried.append({**row, "": "chosen" if chosen else "", "validation AUC": number(mean)})
        if entry["set"]:
            fixed.append({"experiment": name, "sets": settings(entry["set"])})
    blocks = []
    if tried:
        seeds = ", ".join(map(str, comparison["study"]["choose_seeds"]))
        blocks += [
            "## Settings that were chosen",
            table(tried, texts=3),
            f"Chosen by the mean validation AUC alone (seeds {seeds}); the test split was not "
            "looked at. All chose from the same grid, but for what an experiment sets itself.",
        ]
    if fixed:
        blocks += ["## Settings of the experiments", table(fixed, texts=2)]
    return blocks
