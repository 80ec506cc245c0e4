import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers.auc import CountedAUC


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_counts_what_the_librarys_does_and_reads_its_checkpoints(jit_compile, tmp_path):
    ours, library = CountedAUC(name="auc"), tf.keras.metrics.AUC(from_logits=True, name="auc")

    @tf.function(jit_compile=jit_compile)
    def update(label, logit, weight):
        ours.update_state(label, logit, weight)

    rng = np.random.default_rng(0)
    for scale in (0.1, 3.0, 200.0):  # the last of them saturates
        label, logit = rng.integers(0, 2, 500), scale * rng.normal(size=500)
        label, logit = label.astype(np.float32), logit.astype(np.float32)
        update(label, logit, 1.0)
        update(label, logit, 0.0)
        library.update_state(label, logit)
    for one, other in zip(ours.variables, library.variables, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(ours.result(), library.result(), rtol=1e-6)
    saved = tf.train.Checkpoint(auc=library).write(str(tmp_path / "checkpoint"))
    new = CountedAUC()
    tf.train.Checkpoint(auc=new).read(saved).assert_consumed()
    assert float(new.result()) == float(library.result())
