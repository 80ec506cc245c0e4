"""The product and the straightforward reference, as steps that wait for their result."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from benchmarks.settings import Batch, Setting, build_model
from benchmarks.straightforward import Straightforward
from diffumin_tf.input.features import HistoryGroup
from diffumin_tf.model import RankingModel

TRAINING, SCORING = "training", "scoring"
PRODUCT, REFERENCE = "product", "reference"

Step = Callable[[Batch], object]


def product(setting: Setting) -> dict[str, Step]:
    """Training and scoring by the product, compiled for any batch as in `Trainer`."""
    return _product(shared(PRODUCT, setting))


def reference(setting: Setting) -> dict[str, Step]:
    """Training and scoring by the reference, on a model of its own."""
    return _reference(shared(REFERENCE, setting))


def model_of(setting: Setting) -> RankingModel:
    """The model behind `product`."""
    return _model(shared(PRODUCT, setting))


BY_NAME = {PRODUCT: product, REFERENCE: reference}


def shared(contender: str, setting: Setting) -> Setting:
    """One setting for all that a contender serves with one graph.

    Tracing takes longer than measuring, and a graph of one length is no faster than one of any.
    """
    of_any_length = dataclasses.replace(setting, length=max(setting.kept, setting.recent))
    if contender == REFERENCE:  # a fixed number of samples makes it faster
        return of_any_length
    # Where histories are shorter than k or K, it would pad what it keeps to that length.
    enough = setting.length >= of_any_length.length
    return dataclasses.replace(of_any_length if enough else setting, batch_size=1)


@functools.cache
def _model(key: Setting) -> RankingModel:
    return build_model(key)


@functools.cache
def _product(key: Setting) -> dict[str, Step]:
    model = _model(key)
    group = HistoryGroup(
        rows=tf.TensorSpec([None, None, len(key.layout.behaviours)], tf.int32),
        mask=tf.TensorSpec([None, None], tf.bool),
        samples=tf.TensorSpec([None], tf.int32),
    )
    inputs = {**_inputs(key, None), "histories": (group,)}
    label = tf.TensorSpec([None], tf.float32)
    update = tf.function(model.train_step, input_signature=[(inputs, label)])
    predict = tf.function(model.predict_click, input_signature=[inputs])
    return {
        TRAINING: lambda batch: update((batch.inputs, batch.label))["total_loss"].numpy(),
        SCORING: lambda batch: predict(batch.inputs)["pctr"].numpy(),
    }


@functools.cache
def _reference(key: Setting) -> dict[str, Step]:
    straightforward, size = Straightforward(build_model(key, plain_optimizers=True)), key.batch_size
    inputs = {
        **_inputs(key, size),
        "behaviours": tf.TensorSpec([size, None, len(key.layout.behaviours)], tf.int32),
        "mask": tf.TensorSpec([size, None], tf.bool),
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


def _inputs(setting: Setting, size: int | None) -> dict[str, tf.TensorSpec]:
    """What both contenders take."""
    layout = setting.layout
    return {
        "fields": tf.TensorSpec([size, len(layout.fields)], tf.int32),
        "dense": tf.TensorSpec([size, len(layout.dense)], tf.float32),
        "user": tf.TensorSpec([size], tf.int64),
    }
