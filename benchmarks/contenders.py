"""The product and the straightforward reference, as steps that wait for their result."""

from __future__ import annotations

import functools
from collections.abc import Callable

import tensorflow as tf

from benchmarks.settings import Batch, Setting, build_model
from benchmarks.straightforward import Straightforward
from diffumin_tf.evaluation.scoring import predict_function
from diffumin_tf.model import compiled_for_any_batch

TRAINING, SCORING = "training", "scoring"
PRODUCT, REFERENCE = "product", "reference"

Step = Callable[[Batch], object]


@functools.cache  # several stages measure the same setting, and tracing takes long
def product(setting: Setting) -> dict[str, Step]:
    """Training and scoring by the product, compiled as in `Trainer` and `evaluation.scoring`."""
    model = build_model(setting)
    update, predict = compiled_for_any_batch(model.train_step), predict_function(model)
    return {
        TRAINING: lambda batch: update((batch.inputs, batch.label))["total_loss"].numpy(),
        SCORING: lambda batch: predict(batch.inputs).numpy(),
    }


def reference(setting: Setting) -> dict[str, Step]:
    """Training and scoring by the reference, on a model of its own.

    Each is traced once for histories of any length, because tracing takes longer than measuring;
    a graph of one length is no faster. Sizes of batches are fixed: unknown ones cost time.
    """
    straightforward = Straightforward(build_model(setting, plain_optimizers=True))
    size, layout = setting.batch_size, setting.layout
    inputs = {
        "fields": tf.TensorSpec([size, len(layout.fields)], tf.int32),
        "behaviours": tf.TensorSpec([size, None, len(layout.behaviours)], tf.int32),
        "mask": tf.TensorSpec([size, None], tf.bool),
        "dense": tf.TensorSpec([size, len(layout.dense)], tf.float32),
        "user": tf.TensorSpec([size], tf.int64),
    }
    label = tf.TensorSpec([size], tf.float32)
    update = tf.function(
        straightforward.train_step, input_signature=[inputs, label], autograph=False
    )
    score = tf.function(straightforward.score, input_signature=[inputs], autograph=False)
    return {
        TRAINING: lambda batch: update(batch.dense, batch.label).numpy(),
        SCORING: lambda batch: score(batch.dense).numpy(),
    }


BY_NAME = {PRODUCT: product, REFERENCE: reference}
