"""An export of a run on records with a key for each column takes such records."""

import glob
import json

import numpy as np
import tensorflow as tf

from diffumin_tf.run.open import create_run
from tests.column_records import write_column_experiment


def test_records_are_scored_as_in_the_run_and_kinds_are_kept(tmp_path):
    exp = write_column_experiment(tmp_path, per_day=24)
    lines = []
    run = create_run(str(exp), str(tmp_path / "run"), (), lines.append)
    assert lines[0].startswith(("no GPU: ", "1 GPU: "))
    assert [line.split(": ")[:2] for line in lines[1:]] == [
        [
            split,
            f"{files} files, {tmp_path}/data/dt=2024-01-0{day}/part-00000 … "
            f"{tmp_path}/data/dt=2024-01-0{last}/part-00001",
        ]
        for split, files, day, last in (("train", 4, 1, 2), ("valid", 2, 3, 3), ("test", 2, 4, 4))
    ]
    kept = json.loads((tmp_path / "run" / "data_struct.json").read_text())
    assert kept["layout"] == "columns" and kept["kind"]["hour"] == "bytes"

    examples = tf.saved_model.load(run.export(check=True)).signatures["examples"]
    files = sorted(glob.glob(f"{tmp_path}/data/dt=2024-01-04/part-*"))
    records = [r for file in files for r in tf.data.TFRecordDataset(file).as_numpy_iterator()]
    served = examples(inputs=tf.constant(records))["outputs"].numpy()
    np.testing.assert_allclose(served, run.score("test").pctr, rtol=1e-5)
    assert np.unique(served).size > 12
