"""A small model with its feature path and batches, for tests."""

import numpy as np
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import TaskConfig
from diffumin_tf.input.features import FeaturePath
from diffumin_tf.input.vocabulary import HashedRows
from diffumin_tf.model import RankingModel
from diffumin_tf.training.optimizers import RowAdagrad
from tests.layers.helpers import randomise
from tests.small_log import CONFIG, SCHEMA, samples

ROWS = 997  # a prime that no other size is, nor a multiple of
BATCH = 16
SCHEMA_OBJECT = DataStruct.from_dict(SCHEMA)
BUCKETS = (3, 7, 10)
LEAN = {"infer_timesteps": 1, "deep_layers": [4], "activation": "relu"}


def build(schema=SCHEMA_OBJECT, **changes):
    """A model with weights that only the seed decides, its feature path, compiled."""
    tf.keras.utils.set_random_seed(0)
    config = TaskConfig.model_validate({**CONFIG, **changes})
    model = RankingModel(config, schema, ROWS)
    model.create_weights()
    randomise(model)
    compile_model(model)
    return model, path_of(model, schema, (config.seq_len,))


def path_of(model, schema, buckets):
    return FeaturePath(schema, model.layout, buckets[-1], HashedRows(ROWS), buckets)


def compile_model(model, rate=0.01, table_rate=0.05):
    model.compile(tf.keras.optimizers.Adam(rate), RowAdagrad(table_rate))


def undone(model):
    """Shifts that a later batch norm takes out: their gradients are rounding, or zero."""
    shifts = ("interests/beta:0", "dense_norm/beta:0", "short_term/beta:0")
    # Both norms of an encoder block have this name; the last one comes last.
    found = {w.name: w.ref() for w in model.trainable_variables if w.name.endswith(shifts)}
    assert len(found) == len(shifts)
    return set(found.values())


def raw_batch(seed=0, size=BATCH, width=12):
    data = samples(size, seed)
    raw = {"cat_feature": data.cat_feature, "dense_feature": data.dense_feature}
    for name, (values, splits) in data.sequences.items():
        rows = [values[splits[row] : splits[row + 1]][:width] for row in range(size)]
        raw[name] = np.stack([np.pad(row, (0, width - len(row))) for row in rows])
    return {name: tf.constant(value) for name, value in raw.items()}


def batch(path, seed=0, size=BATCH):
    data = samples(size, seed)
    return labelled(path(raw_batch(seed, size)), data)


def labelled(inputs, data, rows=slice(None)):
    user, label = data.auxiliary_info[rows, 0], data.label[rows]
    return inputs._replace(user=tf.constant(user), label=tf.constant(label, tf.float32))


def grouped_batch(model, seed=0, size=BATCH, rows=slice(None)):
    """The same batch, or some of its rows, with the histories in groups."""
    data = samples(size, seed)
    raw = {"cat_feature": data.cat_feature[rows], "dense_feature": data.dense_feature[rows]}
    raw |= {n: tf.RaggedTensor.from_row_splits(*ids)[rows] for n, ids in data.sequences.items()}
    return labelled(path_of(model, SCHEMA_OBJECT, BUCKETS).grouped(raw), data, rows)


def with_unknown_ids(inputs, share=0.3):
    """The inputs as if some ids were unknown: row 0 in places that are not masked."""
    rng = np.random.default_rng(0)

    def some_unknown(rows):
        return rows * tf.constant(rng.random(rows.shape) >= share, rows.dtype)

    groups = tuple(g._replace(rows=some_unknown(g.rows)) for g in inputs.histories)
    return inputs._replace(fields=some_unknown(inputs.fields), histories=groups)


def pctr(model, inputs):
    return model.predict_click(inputs)["pctr"].numpy()
