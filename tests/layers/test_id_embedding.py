import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.layers import IdEmbedding


@pytest.mark.parametrize("row_zero", [0.0, 9.0])
def test_a_scan_reads_the_same_without_gradient(row_zero):
    embedding = IdEmbedding(rows=11, dim=3)
    ids = tf.constant(np.random.default_rng(0).integers(0, 11, [4, 9, 2]))
    embedding(ids)
    embedding.table.assign(
        tf.concat([tf.fill([1, 3], row_zero), tf.random.normal([10, 3], seed=0)], axis=0)
    )
    with tf.GradientTape(persistent=True) as tape:
        scanned, read = embedding.scan(ids), embedding(ids)
    np.testing.assert_array_equal(scanned, read)
    np.testing.assert_array_equal(tf.function(embedding.scan)(ids), read)
    np.testing.assert_array_equal(embedding.scan(ids, branches=False), read)
    assert tape.gradient(scanned, embedding.table) is None
    assert tape.gradient(read, embedding.table) is not None


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("sizes", [None, (4, 4, 3)], ids=["one table", "shards"])
def test_a_mean_of_lists_is_that_of_a_loop_over_them_and_has_a_sparse_gradient(sizes, dtype):
    embedding = IdEmbedding(rows=11, dim=3, initializer=tf.keras.initializers.RandomNormal())
    tables = sharded(embedding, sizes) if sizes else [embedding(tf.constant([0])), embedding.table]
    lists = [[3, 7], [], [5], [5, 5, 2, 10], []]
    rows = tf.constant(np.concatenate(lists), dtype)
    values = embedding(tf.range(11)).numpy().astype(np.float64)
    expected = [values[ids].mean(axis=0) if ids else np.zeros(3) for ids in lists]
    with tf.GradientTape() as tape:
        means = embedding.mean(rows, tf.constant([len(ids) for ids in lists], dtype))
    np.testing.assert_allclose(means, expected, atol=1e-7)
    assert not means.numpy()[[1, 4]].any() and np.abs(means.numpy()[0]).max() > 0
    gradients = tape.gradient(means, tables if sizes else tables[1:])
    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)
    dense = np.concatenate([tf.convert_to_tensor(gradient) for gradient in gradients])[:, 0]
    np.testing.assert_allclose(dense, [0, 0, 0.25, 0.5, 0, 1.5, 0, 0.5, 0, 0, 0.25])
    assert embedding.mean(rows[:0], tf.zeros([0], dtype)).shape == (0, 3)


def test_gradient_of_the_table_is_sparse():
    embedding = IdEmbedding(rows=100, dim=2)
    ids = tf.constant([[3, 0, 3]])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(embedding(ids))
    gradient = tape.gradient(loss, embedding.table)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, [3, 0, 3])
    np.testing.assert_array_equal(gradient.values, [[1, 1], [0, 0], [1, 1]])


def test_initial_rows_follow_the_initializer():
    table = IdEmbedding(rows=5000, dim=4)
    table(tf.constant([0]))
    assert np.std(table.table.numpy()[1:]) == pytest.approx(0.01, rel=0.05)
    ones = IdEmbedding(rows=3, dim=2, initializer="ones")
    np.testing.assert_array_equal(ones(tf.constant([0, 1, 2])), [[0, 0], [1, 1], [1, 1]])


def sharded(embedding, sizes):
    """The layer with its table in shards, as a parameter server strategy would create them."""
    embedding.build(None)
    starts = np.cumsum([0, *sizes[:-1]])
    shards = [
        tf.Variable(
            embedding._initial_table(
                [sum(sizes), embedding.dim],
                tf.float32,
                partition_shape=tf.TensorShape([size, embedding.dim]),
                partition_offset=(start, 0),
            )
        )
        for start, size in zip(starts, sizes, strict=True)
    ]
    embedding.table = tf.__internal__.distribute.ShardedVariable(shards)
    return shards


@pytest.mark.parametrize("sizes", [(4, 4, 3), (1, 1, 1)], ids=str)
def test_shards_read_and_scan_like_one_table(sizes):
    embedding = IdEmbedding(rows=sum(sizes), dim=3)
    shards = sharded(embedding, sizes)
    values = np.random.default_rng(1).normal(size=[sum(sizes), 3]).astype(np.float32)
    for shard, part in zip(shards, np.split(values, np.cumsum(sizes)[:-1]), strict=True):
        shard.assign(part)
    ids = np.random.default_rng(0).integers(0, sum(sizes), [4, 9, 2])
    expected = values[ids] * (ids != 0)[..., np.newaxis]
    rows = tf.constant(ids, tf.int32)
    for read in (embedding, embedding.scan):
        np.testing.assert_array_equal(read(rows), expected)
        traced = tf.function(read).get_concrete_function(rows)
        np.testing.assert_array_equal(traced(rows), expected)
        types = {operation.type for operation in traced.graph.get_operations()}
        assert "ResourceGather" in types and "ReadVariableOp" not in types
    assert embedding.scan(rows[:0]).shape == (0, 9, 2, 3)


def test_a_scan_of_shards_reads_each_row_once_and_has_no_gradient(monkeypatch):
    embedding = IdEmbedding(rows=11, dim=3)
    shards = sharded(embedding, (4, 4, 3))
    read, lookup = [], tf.nn.embedding_lookup

    def embedding_lookup(params, ids):
        read.append(sorted(ids.numpy()))
        return lookup(params, ids)

    monkeypatch.setattr(tf.nn, "embedding_lookup", embedding_lookup)
    with tf.GradientTape() as tape:
        scanned = embedding.scan(tf.constant([[7, 0, 7], [0, 2, 0]]))
    assert read == [[0, 2, 7]]
    assert tape.gradient(scanned, shards) == [None, None, None]


def test_every_shard_has_a_sparse_gradient_of_its_rows():
    embedding = IdEmbedding(rows=11, dim=2)
    shards = sharded(embedding, (4, 4, 3))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(embedding(tf.constant([[3, 4, 0], [4, 10, 4]])))
    gradients = tape.gradient(loss, shards)
    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)
    rows = [sorted(gradient.indices.numpy()) for gradient in gradients]
    assert rows == [[0, 3], [0, 0, 0], [2]]
    dense = np.concatenate([tf.convert_to_tensor(gradient) for gradient in gradients])
    np.testing.assert_array_equal(dense[:, 0], [0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("initializer", [None, "random_uniform"])
def test_shards_start_different_and_only_the_first_has_the_row_of_zeros(initializer):
    embedding = IdEmbedding(rows=60, dim=4, initializer=initializer)
    shards = sharded(embedding, (20, 20, 20))
    first, *others = (shard.numpy() for shard in shards)
    assert not first[0].any() and first[1:].all()
    for other in others:
        assert other.all() and np.abs(other[1:] - first[1:]).max() > 1e-3
    assert np.abs(others[0] - others[1]).max() > 1e-3


def test_an_initializer_that_knows_no_shards_says_so():
    """Then the strategy makes the whole table and cuts it."""
    embedding = IdEmbedding(rows=4, dim=2, initializer=tf.keras.initializers.Orthogonal())
    with pytest.raises(ValueError, match="partition"):
        sharded(embedding, (2, 2))


def test_refuses_ids_that_are_no_integers():
    with pytest.raises(ValueError, match="`row_ids` must be integers, received dtype float32"):
        IdEmbedding(rows=4, dim=2)(tf.constant([1.0]))
