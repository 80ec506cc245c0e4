import numpy as np
import pytest

from diffumin_tf.layers import FieldAlignedChannels


def blocks(kernel, channels):
    """[d, C·d] as C matrices [d, d], each from candidate to channel vector."""
    width = kernel.shape[0]
    return np.asarray(kernel).reshape(width, channels, width).transpose(1, 0, 2)


@pytest.mark.parametrize(("aligned", "fields"), [(None, [0, 1, 2]), ([2, 0], [2, 0])])
def test_a_channel_copies_its_field_into_its_own_position(aligned, fields):
    initializer = FieldAlignedChannels(2, len(fields), noise=0.0, aligned_fields=aligned)
    kernel = initializer([6, 6 * len(fields)])
    for field, block in zip(fields, blocks(kernel, len(fields)), strict=True):
        np.testing.assert_array_equal(block, np.diag(np.arange(6) // 2 == field))


def test_channels_without_a_field_start_at_the_scale_of_the_candidate():
    kernel = FieldAlignedChannels(field_dim=32, channels=3, noise=0.0, seed=1)([64, 192])
    extra = blocks(kernel, 3)[2]
    assert np.std(extra) == pytest.approx(1 / 8, rel=0.05)


def test_noise_has_the_deviation_asked_for_and_follows_the_seed():
    def kernel(seed, noise):
        return FieldAlignedChannels(32, 2, noise, seed)([64, 128]).numpy()

    noise = kernel(1, 0.1) - kernel(1, 0.0)
    assert np.std(noise) == pytest.approx(0.1, rel=0.05)
    np.testing.assert_array_equal(kernel(1, 0.1), kernel(1, 0.1))
    assert (kernel(1, 0.1) != kernel(2, 0.1)).any()


def test_survives_config():
    initializer = FieldAlignedChannels(2, 3, 0.1, seed=5, aligned_fields=[1])
    copy = FieldAlignedChannels.from_config(initializer.get_config())
    np.testing.assert_array_equal(copy([6, 18]), initializer([6, 18]))


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({"field_dim": 4, "channels": 3}, [6, 18], "`field_dim` must divide .* 6, received 4"),
        ({"field_dim": 2, "channels": 3}, [6, 12], r"`shape` must be \(d, 3·d\) .* \(6, 12\)"),
        ({"field_dim": 2, "channels": 3, "aligned_fields": [3]}, [6, 18], r"received \[3\]"),
        ({"field_dim": 2, "channels": 3, "aligned_fields": [1, 1]}, [6, 18], r"received \[1, 1\]"),
        ({"field_dim": 2, "channels": 1, "aligned_fields": [0, 1]}, [6, 6], "at most 1 different"),
        ({"field_dim": 2, "channels": 1, "noise": -1}, [6, 6], "`noise` .* received -1"),
    ],
)
def test_refuses_what_does_not_fit(arguments, shape, message):
    with pytest.raises(ValueError, match=message):
        FieldAlignedChannels(**arguments)(shape)
