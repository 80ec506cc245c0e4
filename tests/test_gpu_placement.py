"""What the model does otherwise where there is a GPU: it computes the same."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf import devices
from tests.small_model import LEAN, batch, build, pctr, shared_batches, with_unknown_ids
from tests.test_shared_histories import losses_and_gradients

SEARCH = {"search_len": 3, "search_field": "category_list", "hash_bits": 12, "subseq_len": 0}
UNITS = {
    "DiffuMIN": {"channel_share": True, "lamda1": 1.0, "lamda2": 1.0},
    "peers": {
        **SEARCH,
        "input_units": [f"handle_peer_unit:{name}" for name in ("DIN", "SIM_hard", "ETA")],
    },
}


def computed(model, weights, inputs):
    """Scores, losses and gradients."""
    model.set_weights(weights)  # training moves what batches are normalised by
    return [pctr(model, inputs), *losses_and_gradients(model, inputs)]


@pytest.mark.parametrize("changes", UNITS.values(), ids=UNITS)
def test_scores_losses_and_gradients_are_those_of_a_cpu(changes, monkeypatch):
    model, path = build(**LEAN, **changes)
    model.embedding.table.assign_add(tf.ones_like(model.embedding.table))  # row 0 is not zero
    shared, grouped = shared_batches(model)
    batches = [with_unknown_ids(inputs) for inputs in (batch(path), grouped, shared)]
    weights = model.get_weights()
    expected = [computed(model, weights, inputs) for inputs in batches]
    monkeypatch.setattr(devices, "gpus", lambda: 1)
    assert model.embed(batches[0]).rows.dtype == tf.int64
    for inputs, values in zip(batches, expected, strict=True):
        assert values[0].std() > 0.01
        for one, other in zip(computed(model, weights, inputs), values, strict=True):
            np.testing.assert_array_equal(one, other)
