import numpy as np

from diffumin_tf.layers import TransformerEncoder
from tests.layers.helpers import OTHER_SHAPE, normal, randomise


def test_the_last_token_alone_equals_the_last_of_all():
    encoder = TransformerEncoder(n_layers=2, num_heads=2, dff_factor=2)
    tokens, mask = normal(0, 3, 5, 4), np.random.default_rng(1).random([3, 5]) < 0.7
    last = encoder(tokens, mask, last_only=True)  # builds the layer
    randomise(encoder)
    last = encoder(tokens, mask, last_only=True)
    assert last.shape == (3, 1, 4)
    np.testing.assert_allclose(last, encoder(tokens, mask)[:, -1:], atol=OTHER_SHAPE)
