"""Scatters in a step have no index twice: they are then deterministic though not told to be."""

import re

import pytest
import tensorflow as tf

from tests.small_model import LEAN, build, grouped_batch
from tests.test_peer_units import SEARCH, UNITS

# What `devices.compute_reproducibly` leaves as fast as it is on a GPU.
SCATTER = re.compile("(Resource)?Scatter|TensorScatter")
DISTINCT = {"Unique", "Where"}
DIFFUMIN = "handle_rec_unit:Long_term_DiffuMIN"


def source(tensor):
    while tensor.op.type in ("Identity", "Cast"):
        tensor = tensor.op.inputs[0]
    return tensor.op.type


def indices(operation):
    return operation.inputs[0 if operation.type == "ScatterNd" else 1]


# The encoder of recent behaviours is the same in all: it is traced for one.
MODELS = {
    "DiffuMIN": {"input_units": [DIFFUMIN]},
    "peers": {"input_units": [f"handle_peer_unit:{name}" for name in UNITS], "subseq_len": 0},
}


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_no_row_or_place_is_written_twice_by_the_scatters_of_a_step(changes):
    model, _ = build(**LEAN, **SEARCH, **changes)
    batch = grouped_batch(model)
    graph = tf.function(model.update, autograph=False).get_concrete_function(batch).graph
    found = [o for o in graph.get_operations() if SCATTER.match(o.type)]
    assert [o.type for o in found].count("ResourceScatterUpdate") == 2  # the table, its squares
    assert {source(indices(o)) for o in found} <= DISTINCT, [
        (o.type, source(indices(o)), o.name) for o in found
    ]
    library = graph.as_graph_def().library.function
    assert not [n.op for f in library for n in f.node_def if SCATTER.match(n.op)]
