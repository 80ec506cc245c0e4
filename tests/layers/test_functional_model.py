"""The layers together in a plain functional Keras model."""

import numpy as np
import tensorflow as tf

from diffumin_tf.layers import (
    ContrastiveMultiInterestCalibrator,
    DenoiserConfig,
    Diffusion,
    DiffusionMultiInterestGenerator,
    OrthogonalMultiInterestExtractor,
    Tower,
)
from tests.layers.helpers import normal

BATCH, LENGTH, CHANNELS, WIDTH = 16, 12, 3, 6


def build_model():
    history, candidate = tf.keras.Input([None, WIDTH]), tf.keras.Input([WIDTH])
    mask, user = tf.keras.Input([None], dtype=tf.bool), tf.keras.Input([], dtype=tf.int64)
    extracted = OrthogonalMultiInterestExtractor(CHANNELS, top_p=30, seq_len=LENGTH)(
        history, candidate, mask
    )
    generated = DiffusionMultiInterestGenerator(Diffusion(20, 1, 9), DenoiserConfig(n_layers=1))(
        extracted.interests, extracted.channels, extracted.live
    )
    generated = ContrastiveMultiInterestCalibrator()(
        extracted.interests, generated, user, extracted.live
    )
    flat = tf.keras.layers.Flatten()
    features = tf.keras.layers.Concatenate()(
        [flat(extracted.interests), flat(generated), candidate]
    )
    return tf.keras.Model([history, candidate, mask, user], Tower([8, 4])(features))


def data():
    rng = np.random.default_rng(0)
    mask = np.arange(LENGTH) < rng.integers(0, LENGTH + 1, [BATCH, 1])
    history, candidate = normal(0, BATCH, LENGTH, WIDTH), normal(1, BATCH, WIDTH)
    return [history, candidate, mask, rng.integers(0, 5, BATCH)], rng.integers(0, 2, BATCH)


def test_trains_with_both_auxiliary_losses():
    model = build_model()
    bce = tf.keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(0.01), bce, run_eagerly=True)
    inputs, labels = data()
    before = [weight.numpy() for weight in model.trainable_variables]
    history = model.fit(inputs, labels, batch_size=8, epochs=1, verbose=0).history
    assert {"loss", "diffusion_loss", "contrastive_loss"} <= set(history)
    assert np.isfinite([history[name] for name in history]).all()
    assert min(history["diffusion_loss"] + history["contrastive_loss"]) > 0
    for old, weight in zip(before, model.trainable_variables, strict=True):
        assert np.isfinite(weight).all()
        assert (old != weight.numpy()).any(), weight.name
