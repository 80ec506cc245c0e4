import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import FieldAlignedProjection
from tests.layers.helpers import normal


def test_starts_by_putting_each_candidate_field_where_its_behaviour_field_is():
    layer, x = FieldAlignedProjection([2, None, 0, 2], 2, noise=0.0), normal(0, 4, 6)
    projected = layer(x).numpy().reshape(4, 4, 2)
    fields = x.reshape(4, 3, 2)
    for target, source in enumerate([2, None, 0, 2]):
        expected = 0.0 if source is None else fields[:, source]
        np.testing.assert_array_equal(projected[:, target], np.broadcast_to(expected, (4, 2)))


def test_the_start_is_noisy_by_as_much_as_told_and_only_the_seed_decides_how():
    def kernel(**arguments):
        layer = FieldAlignedProjection([0, None], 16, **arguments)
        layer(tf.zeros([1, 16]))
        return layer.get_weights()[0]

    noise = kernel(noise=0.1, seed=3) - kernel(noise=0.0)
    assert noise.std() == pytest.approx(0.1, rel=0.15)
    np.testing.assert_array_equal(kernel(seed=3), kernel(seed=3))
    assert np.abs(kernel(seed=3) - kernel(seed=4)).max() > 1e-3


@pytest.mark.parametrize(
    ("partners", "shape", "message"),
    [
        ([0], [2, 5], "`candidate` must be made of fields of width 2 .* received width 5"),
        ([0, 3], [2, 6], r"with \[0, 3\], received width 6"),
        ([-1], [2, 6], r"with \[-1\], received width 6"),
        ([0], [2, 3, 2], r"`candidate` .* received shape \(2, 3, 2\)"),
    ],
)
def test_refuses_candidates_without_such_fields(partners, shape, message):
    with pytest.raises(ValueError, match=message):
        FieldAlignedProjection(partners, 2)(tf.zeros(shape))
