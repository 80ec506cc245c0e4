"""The product and the straightforward reference, as steps that wait for their result."""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from benchmarks.samples import batch_spec
from benchmarks.settings import Setting
from benchmarks.straightforward import Straightforward
from diffumin_tf import devices
from diffumin_tf.input.batch import Batch
from diffumin_tf.model import RankingModel
from diffumin_tf.training import one_cluster, optimizers

PRODUCT, REFERENCE = "product", "reference"
TRAINING, SCORING = "training", "scoring"

Step = Callable[[Batch], object]


def steps(contender: str, setting: Setting) -> dict[str, Step]:
    """Training and scoring by a contender; settings of different lengths share a graph."""
    return _compiled(contender, graph_setting(contender, setting), setting.batch_size)


def product_model(setting: Setting) -> RankingModel:
    """The model that `steps` of the product train."""
    return _product_model(graph_setting(PRODUCT, setting))


def product_update(setting: Setting, size: int) -> Callable[[Batch], dict[str, tf.Tensor]]:
    """The update that the trainer makes of batches of one size, still to be a graph."""
    model = product_model(setting)
    if devices.with_defaults(setting.config).jit_compile:
        if one_cluster.fits(model, batch_spec(setting.layout)):
            return one_cluster.OneCluster(model, size).update
    return model.update


def graph_setting(contender: str, setting: Setting) -> Setting:
    """The setting whose graph a contender uses for a setting.

    Tracing takes longer than measuring, and a graph of one length is no faster than one of any.
    """
    any_length = setting.at(max(setting.kept, setting.recent))
    if contender == REFERENCE:  # a fixed number of samples makes it faster
        return any_length
    # Where histories are shorter than k or K, it would pad what it keeps to that length.
    long_enough = setting.length >= any_length.length
    return dataclasses.replace(any_length if long_enough else setting, batch_size=1)


def build_model(setting: Setting, library_optimizers: bool = False) -> RankingModel:
    """A compiled model with fresh weights.

    Args:
        setting: its size.
        library_optimizers: takes Adam and Adagrad of Keras instead of those of the product.
    """
    config = setting.config
    _prepare_process(config.seed, config.deterministic)
    model = RankingModel(config, setting.schema, setting.rows)
    model.create_weights()
    if library_optimizers:
        adam = tf.keras.optimizers.Adam(config.lazyAdam_learning_rate)
        model.compile(adam, tf.keras.optimizers.Adagrad(config.learning_rate))
    else:
        model.compile(*optimizers.build(config))
    return model


@functools.cache  # once: setting a seed makes TensorFlow forget which graphs it has prepared
def _prepare_process(seed: int, deterministic: bool) -> None:
    tf.keras.utils.set_random_seed(seed)
    devices.compute_reproducibly(deterministic)


@functools.cache
def _product_model(key: Setting) -> RankingModel:
    return build_model(key)


@functools.cache
def _compiled(contender: str, key: Setting, size: int) -> dict[str, Step]:
    if contender == PRODUCT:
        model, batch = _product_model(key), [batch_spec(key.layout)]
        update = tf.function(product_update(key, size), input_signature=batch, autograph=False)
        predict = tf.function(model.predict_click, input_signature=batch)
        return {
            TRAINING: lambda batch: update(batch)["total_loss"].numpy(),
            SCORING: lambda batch: predict(batch)["pctr"].numpy(),
        }
    reference = Straightforward(build_model(key, library_optimizers=True))
    batch = [batch_spec(key.layout, key.batch_size)]
    update = tf.function(reference.train_step, input_signature=batch, autograph=False)
    score = tf.function(reference.score, input_signature=batch, autograph=False)
    return {
        TRAINING: lambda batch: update(batch).numpy(),
        SCORING: lambda batch: score(batch).numpy(),
    }
