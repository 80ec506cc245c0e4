"""A synthetic log with planted interests as records, from a spec alone."""

import dataclasses
import posixpath
from typing import Any

import tensorflow as tf

from diffumin_tf.errors import DataError
from diffumin_tf.files import read_json
from diffumin_tf.prepare.spec import SyntheticSpec
from diffumin_tf.synthetic.log import Effects, generate
from diffumin_tf.synthetic.writing import write_long_term_records


def prepare_synthetic(spec: SyntheticSpec, output_dir: str) -> dict[str, Any]:
    """Generates the log of a spec and writes its records; see `write_long_term_records`.

    Returns:
        The manifest, which also tells the best reachable AUC of every day.

    Raises:
        DataError: a number is out of range, the folder holds something else, or the disk is full.
    """
    manifest, asked = posixpath.join(output_dir, "manifest.json"), spec.model_dump()
    if tf.io.gfile.exists(manifest):
        there = read_json(manifest)
        if there.get("spec") != asked:
            raise DataError(f"{output_dir}: holds the records of another spec; remove the folder")
        return there
    log = generate(
        spec.samples_per_day,
        users=spec.users,
        items=spec.items,
        history_len=spec.history_len,
        seed=spec.seed,
        click_rate=spec.click_rate,
        min_history_len=spec.min_history_len,
        effects=Effects(**{**dataclasses.asdict(Effects()), **spec.effects}),
    )
    write_long_term_records(log, output_dir, spec.parts, spec.compression, {"spec": asked})
    return read_json(manifest)
