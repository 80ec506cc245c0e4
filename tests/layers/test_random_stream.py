"""Random numbers of a seed, a draw and a row in the global batch."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import RandomStream, SeededDropout
from tests import two_devices
from tests.layers.helpers import random_ops

DRAWS = {
    "normal": lambda stream, shape: stream.normal(shape),
    "integers": lambda stream, shape: stream.integers(shape, 1000),
}
SPLITS = [(2, 3), (0, 5), (1, 0)]


@pytest.fixture(params=DRAWS)
def draw(request):
    return DRAWS[request.param]


def test_numbers_follow_the_seed_and_the_number_of_the_draw(draw):
    one, same = RandomStream(1), RandomStream(1)
    first, second = draw(one, [4, 5]), draw(one, [4, 5])
    graph = tf.function(lambda: draw(same, [4, 5]))
    for expected in (first, second):
        np.testing.assert_array_equal(graph(), expected)
    assert np.mean(first == second) < 0.1
    assert np.mean(draw(RandomStream(2), [4, 5]) == first) < 0.1
    assert int(one.draws) == int(same.draws) == 2


def test_a_row_never_depends_on_the_rows_after_it(draw):
    few, many = draw(RandomStream(1), [3, 7]), draw(RandomStream(1), [50, 7])
    np.testing.assert_array_equal(many[:3], few)


def test_a_compiled_function_draws_anew_and_repeats_with_its_counter():
    stream = RandomStream(1)
    run = tf.function(lambda: stream.uniform_of_replica([4, 5]), jit_compile=True)
    first, second = run(), run()
    assert np.mean(first == second) < 0.1 and int(stream.draws) == 2
    stream.draws.assign(0)
    np.testing.assert_array_equal(run(), first)


def test_uniform_numbers_are_the_same_compiled_and_not():
    drawn = []
    for jit_compile in (False, True):
        stream = RandomStream(1)
        run = tf.function(lambda: stream.uniform_of_replica([9, 7]), jit_compile=jit_compile)  # noqa: B023
        drawn.append([run().numpy(), run().numpy()])
    np.testing.assert_array_equal(*drawn)
    assert 0.4 < np.mean(drawn) < 0.6 and 0 <= np.min(drawn) and np.max(drawn) < 1


def test_every_turn_of_a_loop_draws_anew():
    stream = RandomStream(1)

    @tf.function
    def total():
        _, numbers = tf.while_loop(
            lambda turn, _: turn < 3,
            lambda turn, seen: (turn + 1, seen + stream.normal([4])),
            (0, tf.zeros([4])),
        )
        return numbers

    other = RandomStream(1)
    expected = sum(other.normal([4]).numpy() for _ in range(3))
    np.testing.assert_allclose(total(), expected, rtol=1e-5, atol=1e-6)
    assert int(stream.draws) == 3


def test_distributions_are_what_their_names_say():
    stream = RandomStream(7)
    gaussian = stream.normal([200, 500]).numpy()
    flat = stream.uniform_of_replica([200, 500]).numpy()
    assert abs(gaussian.mean()) < 0.02 and abs(gaussian.std() - 1) < 0.02
    assert flat.min() >= 0 and flat.max() < 1
    np.testing.assert_allclose(np.histogram(flat, 10, (0, 1))[0] / flat.size, 0.1, atol=0.01)
    dice = np.bincount(stream.integers([200, 500], 6).numpy().ravel(), minlength=6)
    np.testing.assert_allclose(dice / dice.sum(), 1 / 6, atol=0.01)


@pytest.mark.parametrize("sizes", SPLITS, ids=str)
def test_replicas_draw_the_rows_of_their_samples(sizes, draw):
    with two_devices.mirrored().scope():
        stream = RandomStream(1)
    alone = RandomStream(1)
    parts = two_devices.parts(np.zeros([sum(sizes), 3], np.float32), sizes)
    for _ in range(2):
        found = two_devices.run(lambda x: draw(stream, tf.shape(x)), parts)
        np.testing.assert_array_equal(np.concatenate(found), draw(alone, [sum(sizes), 3]))


def test_each_replica_may_draw_numbers_of_its_own():
    with two_devices.mirrored().scope():
        stream = RandomStream(1)
    parts = [tf.zeros([3, 4]), tf.zeros([3, 4])]
    drawn = [two_devices.run(lambda x: stream.uniform_of_replica(x.shape), parts) for _ in "ab"]
    assert len(np.unique(drawn)) == np.size(drawn)


def test_a_layer_that_draws_has_no_operation_whose_state_is_hidden():
    dropout = SeededDropout(0.5)
    ops = random_ops(lambda: dropout(tf.ones([2, 3]), training=True))
    assert ops and all(op.startswith("Stateless") for op in ops), ops


@pytest.mark.parametrize("seed", [None, 1.5, "a"])
def test_refuses_seeds_that_are_no_integers(seed):
    with pytest.raises(ValueError, match="`seed` must be an integer, received"):
        RandomStream(seed)
