"""A small experiment on disk for tests: schema, records with a learnable signal, configuration."""

import json
import pathlib

import numpy as np

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input import records

SCHEMA = {
    "label": {"column": ["click"]},
    "auxiliary_info": {"column": ["user_id"]},
    "cat_feature": {"column": ["user", "item", "category", "hour", "fixed_list[0:4]"]},
    "dense_feature": {"column": ["price"]},
    "sequence_feature": {"column": ["item_list", "category_list"], "max_len": 12},
}
CONFIG = {
    "input_units": ["handle_rec_unit:Long_term_DiffuMIN"],
    "features": {
        "user": ["user"],
        "candidate": ["item", "category"],
        "context": ["hour"],
        "behaviours": ["item_list", "category_list"],
        "dense": ["price"],
    },
    "train_data_start": 20240101,
    "train_data_end": 20240102,
    "valid_data_start": 20240103,
    "valid_data_end": 20240103,
    "test_data_start": 20240104,
    "test_data_end": 20240104,
    "embedding": {"kind": "hash", "rows": 997},
    "embed_dim": 4,
    "seq_len": 10,
    "subseq_len": 3,
    "channel_num": 2,
    "top_p": 30.0,
    "timesteps": 50,
    "infer_timesteps": 2,
    "start_timestep": 5,
    "n_layers": 1,
    "deep_layers": [16, 8],
    "batch_size": 32,
    "shuffle_buffer_size": 256,
    "save_summary_steps": 5,
}


def samples(count: int, seed: int) -> records.SampleColumns:
    """Samples whose click depends on whether the candidate's category is in the history."""
    rng = np.random.default_rng(seed)
    users = rng.integers(1, 20, count)
    items = rng.integers(100, 140, count)
    lengths = rng.integers(0, 13, count)
    splits = np.r_[0, np.cumsum(lengths)]
    past = rng.integers(100, 140, splits[-1])
    match = [(past[splits[i] : splits[i + 1]] % 8 == items[i] % 8).any() for i in range(count)]
    label = (rng.random(count) < np.where(match, 0.8, 0.2)).astype(np.int64)
    categorical = [users, items, 200 + items % 8, 300 + rng.integers(0, 24, count)]
    fixed = rng.integers(100, 140, [count, 4])
    return records.SampleColumns(
        label=label,
        auxiliary_info=users[:, None],
        cat_feature=np.c_[np.stack(categorical, 1), fixed].astype(np.int64),
        dense_feature=rng.normal(size=[count, 1]).astype(np.float32),
        sequences={
            "item_list": (past.astype(np.int64), splits),
            "category_list": ((200 + past % 8).astype(np.int64), splits),
        },
    )


def write_experiment(
    folder: pathlib.Path, per_day: int = 160, schema=SCHEMA, samples=samples, **changes
) -> pathlib.Path:
    """Writes records of four days and `exp/` beside them; returns the experiment folder."""
    data, exp = folder / "data", folder / "exp"
    exp.mkdir(parents=True)
    for number in range(4):
        day = data / f"2024010{number + 1}"
        day.mkdir(parents=True)
        with records.PartWriter(str(day), parts=2) as writer:
            day_samples = samples(per_day, seed=number)
            writer.write(records.encode(DataStruct.from_dict(schema), day_samples))
    (exp / "data_struct.json").write_text(json.dumps(schema))
    config = {**CONFIG, "train_data_path": str(data), **changes}
    (exp / "task_conf.json").write_text(json.dumps(config))
    return exp
