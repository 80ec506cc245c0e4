import numpy as np
import tensorflow as tf

from diffumin_tf.layers import SampledHashAttention
from tests.layers import contract


def test_the_candidate_gets_no_gradient_and_only_what_collides_does():
    layer = SampledHashAttention(4, 4, seed=1)
    *tensors, mask = contract.history(4).values()
    history, candidate = map(tf.constant, tensors)
    with tf.GradientTape() as tape:
        tape.watch([history, candidate])
        loss = tf.reduce_sum(layer(history, candidate, mask) ** 3)
    of_history, of_candidate = tape.gradient(loss, [history, candidate])
    assert of_candidate is None
    collides = np.all(layer.hash(history) == layer.hash(candidate)[:, None], axis=2) & mask
    moved = np.any(of_history != 0, axis=2)
    assert collides.any() and not (moved & ~collides).any()
