import tensorflow as tf

from diffumin_tf.layers import Tower


def test_normalises_before_the_activation():
    kinds = [layer.name.rsplit("_", 1)[0] for layer in Tower([4]).hidden]
    assert kinds == ["dense", "batch_norm", "dice", "dropout"]
    kinds = [layer.name.rsplit("_", 1)[0] for layer in Tower([4], "relu", False).hidden]
    assert kinds == ["dense", "relu", "dropout"]


def test_a_hidden_layer_has_one_shift():
    for batch_norm in (True, False):
        tower = Tower([4], "relu", batch_norm)
        tower(tf.zeros([2, 3]))
        assert tower.hidden[0].use_bias is not batch_norm
