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


# Of each history its length, and of each of its samples where it begins to see.
SHARED = [
    (0, [0, 0]),  # empty
    (7, [0, 3, 7]),  # from the start, from the middle, past the end
    (3, [0]),
    (40, [30, 39, 17, 0, 0, 40, *[5] * 8]),  # of far more samples than others, so in tiles
    (25, [2, 9]),
    (10, [0]),
]


def shared_batches(model, buckets=BUCKETS, histories=SHARED, rows=slice(None), seed=0):
    """A batch whose samples share histories of few ids, and the same with a history for each.

    Args:
        rows: samples to take, a slice.
    """
    sample = [(number, at) for number, (_, newer) in enumerate(histories) for at in newer][rows]
    data, rng = (
        samples(sum(len(newer) for _, newer in histories), seed),
        np.random.default_rng(seed),
    )
    items = [rng.integers(100, 110, length) for length, _ in histories]
    raw = {"cat_feature": data.cat_feature[rows], "dense_feature": data.dense_feature[rows]}
    used = sorted({number for number, _ in sample})
    lists = {"item_list": lambda item: item, "category_list": lambda item: 200 + item % 8}
    shared = {
        "record": np.int32([used.index(number) for number, _ in sample]),
        "newer": np.int32([at for _, at in sample]),
        **{name: _ragged([of(items[number]) for number in used]) for name, of in lists.items()},
    }
    alone = {
        name: _ragged([of(items[number][at : at + 12]) for number, at in sample])
        for name, of in lists.items()
    }
    path = path_of(model, SCHEMA_OBJECT, buckets)
    return [labelled(path.grouped({**raw, **own}), data, rows) for own in (shared, alone)]


def _ragged(lists):
    flat = np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int64)
    return tf.RaggedTensor.from_row_lengths(flat, np.int64([len(x) for x in lists]))


def with_unknown_ids(inputs, share=0.3):
    """The inputs as if some ids were unknown: row 0 in places that are not masked."""
    rng = np.random.default_rng(0)

    def some_unknown(rows):
        return rows * tf.constant(rng.random(rows.shape) >= share, rows.dtype)

    groups = tuple(g._replace(rows=some_unknown(g.rows)) for g in inputs.histories)
    return inputs._replace(fields=some_unknown(inputs.fields), histories=groups)


def pctr(model, inputs):
    return model.predict_click(inputs)["pctr"].numpy()
