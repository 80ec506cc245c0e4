"""What a step launches where there is a GPU: no more than it did, and nothing waits for the host.

Both are read off graphs, with the kernels that TensorFlow has registered; no GPU is needed.
"""

import json
import pathlib

import pytest
import tensorflow as tf

from benchmarks import kernels
from benchmarks.graphs import DEVICE, FREE, HOST, executed

FILE = pathlib.Path(__file__).with_name("kernels.json")
EXPECTED = json.loads(FILE.read_text())
# A part that launches so much less is to keep what it has won.
NOTABLE = 0.8, 10
# What XLA compiles is not counted, so that it may be little: that takes less time to trace.
LEAN = {
    kernels.ONE_CLUSTER: ["infer_timesteps=1", "n_layers=1", "deep_layers=[8]"],
    kernels.BY_PARTS: ["infer_timesteps=1"],
}


@pytest.fixture(scope="module", params=kernels.KINDS)
def step(request):
    """A kind of step, and its nodes in `Long_term_DiffuMIN`."""
    kind = request.param
    return kind, kernels.of_step(kind, overrides=LEAN.get(kind, []))


def test_no_part_of_a_step_launches_more_kernels_than_it_did(step):
    kind, nodes = step
    wrong, allowed = [], EXPECTED[kind]["kernels"]
    for part, counted in kernels.by_part(nodes).items():
        now, most = counted[DEVICE] + counted[HOST], allowed.get(part, 0)
        if now > most:
            wrong.append(f"{part}: {now} kernels, {most} are allowed; what has come to it?")
        elif now < NOTABLE[0] * most and now <= most - NOTABLE[1]:
            wrong.append(f"{part}: {now} kernels, {most} are allowed; write {now}, so it stays")
    assert not wrong, f"{kind}, numbers of {FILE.name}:\n" + "\n".join(wrong)


def test_the_host_computes_and_awaits_nothing_of_the_data_but_what_has_a_reason(step):
    kind, nodes = step
    known = EXPECTED[kind]["host"]
    new = {
        k: n for k, n in kernels.waiting(nodes).items() if n > known.get(k, {"times": 0})["times"]
    }
    gone = known.keys() - kernels.waiting(nodes).keys()
    assert not new, f"{kind}: the host computes or awaits {new}; take int64, or other operations"
    assert not gone, f"{kind}: no longer on the host, so strike it out in {FILE.name}: {gone}"


def test_what_xla_compiles_is_few_clusters(step):
    kind, nodes = step
    clusters = sum(part["clusters"] for part in kernels.by_part(nodes).values())
    assert clusters == EXPECTED[kind]["clusters"]


INT32, INT64 = (tf.TensorSpec([None, 4], dtype) for dtype in (tf.int32, tf.int64))
COMPUTED = {
    "int32 on the host": (lambda x: x * 3, INT32, ("Mul", HOST, 1, 1, "")),
    "int64 not": (lambda x: x * 3, INT64, ("Mul", DEVICE, 1, 0, "")),
    "shapes are no data": (
        lambda x: tf.zeros([tf.shape(x)[0] * 3, 2]), INT64, ("Mul", HOST, 1, 0, ""),
    ),
    "but a shape that the GPU computes is": (
        lambda x: tf.zeros([tf.shape(x, tf.int64)[0] * 3, 2]), INT64, ("Fill", DEVICE, 1, 1, ""),
    ),
    "and one of data": (lambda x: tf.zeros(x[0]), INT64, ("Fill", DEVICE, 1, 1, "")),
    "any size": (lambda x: tf.unique(x[0]), INT64, ("Unique", DEVICE, 1, 1, "")),
    "loops": (
        lambda x: tf.while_loop(
            lambda i, y: i < 7, lambda i, y: (i + 1, y // 3), (0, x), maximum_iterations=7
        ),
        INT64,
        ("FloorDiv", DEVICE, 7, 0, ""),
    ),
    "branches": (
        lambda x: tf.cond(x[0, 0] > 0, lambda: x * 2, lambda: x), INT64, ("If", HOST, 1, 1, ""),
    ),
    "new axes": (lambda x: x[:, tf.newaxis] + 1, INT64, ("StridedSlice", FREE, 1, 0, "")),
    "slices": (lambda x: x[:, 1:] + 1, INT64, ("StridedSlice", DEVICE, 1, 0, "")),
}  # fmt: skip


@pytest.mark.parametrize("function, spec, expected", COMPUTED.values(), ids=COMPUTED)
def test_nodes_are_counted_where_they_run(function, spec, expected):
    found = executed(function, spec)
    found = [
        (n.op.removeprefix("Stateless"), n.where, n.times, len(n.awaits), n.cluster) for n in found
    ]
    assert expected in found, found


def test_a_cluster_is_told_from_what_is_around_it():
    compiled = tf.function(lambda x: x * 3, jit_compile=True)
    found = {node.op: node.cluster for node in executed(lambda x: compiled(x + 1), INT64)}
    assert found["AddV2"] == "" and found["Mul"] != ""


def test_a_loop_of_unknown_length_is_named():
    def halve(x):
        return tf.while_loop(lambda y: tf.reduce_any(y > 1), lambda y: (y // 2,), (x,))

    with pytest.raises(ValueError, match="while: how often this loop runs is no constant"):
        executed(halve, INT64)
