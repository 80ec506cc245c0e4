"""What the interest channels of a trained run hold.

usage: python tools/channel_usage.py --model_dir RUN [--split valid] [--samples 2000]

For every channel of OMIE: how many samples it keeps a behaviour for, its share of all behaviours
that are kept (and the entropy of these shares; ln C when all channels keep as many), the length of
its interest r, how alike r is between samples (the mean cosine of two samples: near 1, the channel
tells nothing about the user), and how near the generated r* is to r. Writes nothing.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import flags

from diffumin_tf.errors import ConfigError
from diffumin_tf.run.open import Run, open_run
from diffumin_tf.terminal import exit_code, parse
from handle_layer.handle_lib.handle_rec_unit import Long_term_DiffuMIN

_BATCH = 256


@exit_code
def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("model_dir", None, "Folder of a trained run.", values)
    flags.DEFINE_enum("split", "valid", ["train", "valid", "test"], "Which data.", values)
    flags.DEFINE_integer("samples", 2000, "How many.", lower_bound=2, flag_values=values)
    parse(values, "channel_usage", argv, ["model_dir"], __doc__)
    print("\n".join(report(values.model_dir, values.split, values.samples)))


def report(model_dir: str, split: str, samples: int) -> list[str]:
    """Lines of a table, one for each channel, from the first samples of a split."""
    run = open_run(model_dir)
    units = [unit for unit in run.model.units if isinstance(unit, Long_term_DiffuMIN)]
    if not run.config.use_omie or not units:
        raise ConfigError(f"{model_dir}: no unit of it extracts interests")
    tables = [_table(unit.name, *_look(run, unit, split, samples)) for unit in units]
    return sum(tables, [])


def _look(
    run: Run, unit: Long_term_DiffuMIN, split: str, samples: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """r, r* (or None) [n, C, d], and how many behaviours were kept [n, C]."""
    columns: list[list[np.ndarray]] = [[], [], []]
    for batch in run.batches(split, batch_size=_BATCH).epoch():
        embedded = run.model.embed(batch)
        interests, channels, kept = unit.extract(embedded)
        count = kept.numpy().sum(axis=2)
        columns[0].append(interests.numpy())
        columns[1].append(count)
        if run.config.use_dmig:
            columns[2].append(unit.generate(interests, channels, count > 0).numpy())
        if sum(map(len, columns[0])) >= samples:
            break
    interests, count, generated = (np.concatenate(c)[:samples] if c else None for c in columns)
    return interests, generated, count


def _table(
    name: str, interests: np.ndarray, generated: np.ndarray | None, count: np.ndarray
) -> list[str]:
    share = count.sum(axis=0) / max(count.sum(), 1)
    entropy = -sum(p * np.log(p) for p in share if p > 0)
    lines = [
        f"{name}: {len(count):,} samples; entropy of the shares {entropy:.2f} of at most "
        f"{np.log(len(share)):.2f}",
        "channel  samples  share of kept  median length of r  alike between samples  r* against r",
    ]
    for channel in range(len(share)):
        live = count[:, channel] > 0
        r, n = interests[live, channel], live.sum()
        directions = _unit(r)
        alike = (np.square(directions.sum(axis=0)).sum() - n) / (n * (n - 1)) if n > 1 else np.nan
        near = np.nan
        if generated is not None and n:
            near = np.mean(np.sum(directions * _unit(generated[live, channel]), axis=1))
        middle = np.median(np.linalg.norm(r, axis=1)) if n else np.nan
        lines.append(
            f"{channel:7d}  {np.mean(live):6.0%}  {share[channel]:13.0%}  {middle:18.4f}  "
            f"{alike:21.2f}  {near:12.2f}"
        )
    return lines


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
