"""From files to batches: order, positions, and parts of global batches for replicas and workers."""

import itertools
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.errors import ConfigError
from diffumin_tf.input.dataset import Batches, Part, check_input_shards
from tests.input.part_files import encoded, numbered, small_path, users_in, users_of, write_parts

# 103 samples in 6 files of 17 or 18; batches of 12 leave 7 for the last one.
SAMPLES, FILES, BATCH = 103, 6, 12
SHUFFLE = (40, 5)


@pytest.fixture(scope="module")
def files(schema, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return write_parts(folder, encoded(schema, SAMPLES), FILES)


@pytest.fixture
def read(files, schema, path):
    """Users of each element of a dataset of batches."""

    def users(part=None, of=files, batch_size=BATCH, shuffle=SHUFFLE, **options):
        return users_in(of, schema, path, batch_size, shuffle, part=part or Part(), **options)

    return users


@pytest.mark.parametrize("shuffle", [None, (16, 1)])
def test_every_record_comes_once_from_any_position(read, shuffle):
    every = read(shuffle=shuffle)
    assert [len(batch) for batch in every] == [12] * 8 + [7]
    assert sorted(sum(every, [])) == list(range(SAMPLES))
    for skip in (1, 9):
        assert read(shuffle=shuffle, skip=skip) == every[skip:]


def test_records_keep_the_order_of_the_files_unless_shuffled_which_mixes_files_too(read):
    in_order = [user for part in range(FILES) for user in range(part, SAMPLES, FILES)]
    assert sum(read(shuffle=None), []) == in_order
    first = {read(shuffle=(1, seed))[0][0] for seed in range(4)}
    assert len(first) > 1 and first <= set(range(FILES))


@pytest.mark.parametrize("options", [{}, {"part": Part(1, 1, 3)}, {"input_shards": 3}])
def test_the_seed_alone_decides_the_order(read, options):
    one = read(shuffle=(16, 7), **options)
    assert read(shuffle=(16, 7), **options) == one
    assert read(shuffle=(16, 8), **options) != one


def test_an_epoch_adds_to_the_seed(files, schema, path):
    batches = Batches(files, schema, path, BATCH, "user_id", SHUFFLE)
    third = [batch.user.numpy().tolist() for batch in batches.epoch(2)]
    assert third == users_in(files, schema, path, BATCH, (SHUFFLE[0], SHUFFLE[1] + 2))
    assert batches.spec == batches.dataset().element_spec


def test_labels_are_floats_and_stay_with_their_samples(files, schema, path):
    data = numbered(SAMPLES)
    for batch in Batches(files, schema, path, 16, "user_id", (99, 3)).dataset():
        assert batch.label.dtype == tf.float32
        np.testing.assert_array_equal(batch.label, data.label[batch.user.numpy()])
        np.testing.assert_array_equal(batch.dense, data.dense_feature[batch.user.numpy()])


def test_users_may_be_a_categorical_column_or_unknown(files, schema, path):
    by_column = Batches(files[:1], schema, path, 99, "user").dataset()
    expected = numbered(SAMPLES).cat_feature[::FILES, 0]
    np.testing.assert_array_equal(next(iter(by_column)).user, expected)
    unknown = Batches(files[:1], schema, path, 99, "nobody").dataset()
    assert next(iter(unknown)).user == ()


def test_batches_left_out_are_not_parsed(files, schema, path, tmp_path):
    bad = write_parts(tmp_path / "bad", [b"no example"] * 32)
    found = users_in([*bad, *files], schema, path, skip=1)
    assert found == users_in(files, schema, path)
    with pytest.raises(tf.errors.InvalidArgumentError):
        users_in([*bad, *files], schema, path)


def in_groups(elements, count):
    """Elements of one pipeline, `count` for each global batch."""
    assert len(elements) % count == 0
    return [elements[i : i + count] for i in range(0, len(elements), count)]


def pipelines(total, workers):
    """Parts of so many workers with the same number of replicas."""
    count = total // workers
    return [Part(w * count, count, total, w, workers) for w in range(workers)]


def global_batches(read, total, workers, **options):
    """For each global batch, the parts of all replicas in order; ended workers give nothing."""
    by_worker = [
        in_groups(read(part, **options), total // workers) for part in pipelines(total, workers)
    ]
    empty = [[]] * (total // workers)
    return [sum(parts, []) for parts in itertools.zip_longest(*by_worker, fillvalue=empty)]


@pytest.mark.parametrize(("total", "workers", "skip"), [(3, 1, 3), (2, 2, 8), (4, 2, 0), (3, 3, 3)])
def test_parts_together_are_the_batches_of_one_device(read, total, workers, skip):
    whole = read()
    parted = global_batches(read, total, workers, skip=skip)
    for batch, parts in zip(whole[skip:], parted, strict=True):
        size = len(batch)
        assert parts == [batch[size * r // total : size * (r + 1) // total] for r in range(total)]


def test_more_replicas_than_samples_leave_some_parts_empty_but_all_take_each_step(read):
    parts = in_groups(read(Part(0, 9, 9)), 9)
    assert [[len(part) for part in batch] for batch in parts[-2:]] == [
        [1, 1, 2, 1, 1, 2, 1, 1, 2],
        [0, 1, 1, 1, 0, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize("buckets", [None, (3, 10)])
def test_an_empty_part_has_the_types_and_shapes_of_others(files, schema, buckets):
    batches = Batches(
        files, schema, small_path(schema, buckets), SAMPLES - 1, "user_id", part=Part(0, 2, 2)
    ).dataset()
    full, *_, empty, one = batches
    assert [len(part.label) for part in (full, empty, one)] == [51, 0, 1]
    for element in (full, empty, one):
        fits = tf.nest.map_structure(
            lambda spec, value: spec.is_compatible_with(value), batches.element_spec, element
        )
        assert all(tf.nest.flatten(fits))


@pytest.mark.parametrize("options", [{}, {"part": Part(1, 2, 3)}, {"input_shards": 3}])
def test_the_number_of_samples_is_open_and_nothing_is_dealt_out_twice(files, schema, path, options):
    batches = Batches(files, schema, path, BATCH, "user_id", **options).dataset()
    assert all(spec.shape[0] is None for spec in tf.nest.flatten(batches.element_spec))
    policy = batches.options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF


@pytest.mark.parametrize("shards", [2, 3, 6])
def test_each_shard_gives_its_share_to_each_batch_for_as_long_as_it_can(read, shards):
    batches = read(input_shards=shards)
    assert sorted(sum(batches, [])) == list(range(SAMPLES))
    order = np.random.default_rng(SHUFFLE[1]).permutation(FILES)
    for shard in range(shards):
        mine = {user for user in range(SAMPLES) if user % FILES in order[shard::shards]}
        given = [len(mine & set(batch)) for batch in batches]
        share, last = BATCH // shards, len(mine) % (BATCH // shards)
        assert [n for n in given if n] == [share] * (len(mine) // share) + [last] * bool(last)
        assert all(n == 0 for n in given[-(-len(mine) // share) :])
        if shard == 0:  # its samples come first
            assert set(batches[0][:share]) == mine & set(batches[0])


def test_shards_are_shuffled_each_in_its_own_way(schema, path, tmp_path):
    files = write_parts(tmp_path / "p", encoded(schema, 80), 2)
    (batch,) = users_in(files, schema, path, 80, (80, 5), input_shards=2)
    one, other = [user // 2 for user in batch[:40]], [user // 2 for user in batch[40:]]
    assert sorted(one) == sorted(other) == list(range(40))
    assert one != other and one != sorted(one)


@pytest.mark.parametrize(("total", "workers", "skip"), [(3, 1, 0), (2, 2, 4), (6, 3, 4)])
def test_shards_give_the_same_batches_to_whatever_parts_there_are(read, total, workers, skip):
    whole = read(input_shards=6)
    parted = global_batches(read, total, workers, input_shards=6, skip=skip)
    assert [sum(parts, []) for parts in parted] == whole[skip:]
    for parts in parted:  # replicas of one worker share near-equally
        sizes = np.reshape([len(part) for part in parts], [workers, total // workers])
        assert (sizes.max(axis=1) - sizes.min(axis=1) <= 1).all()


def test_files_of_others_are_looked_at_but_never_read(files, read, schema, path, tmp_path):
    for part in pipelines(2, 2):
        copies = [shutil.copy(file, tmp_path) for file in files]
        options = {"part": part, "input_shards": 4}
        batches = Batches(copies, schema, path, BATCH, "user_id", SHUFFLE, **options)
        batches.check.look(copies)
        mine = sum(batches._files(0).values(), [])
        noise, *gone = [pathlib.Path(file) for file in copies if file not in mine]
        noise.write_bytes(np.random.default_rng(0).bytes(1000))
        for file in gone:
            file.unlink()
        expected = read(part, input_shards=4)
        assert gone and users_of(batches.dataset()) == expected
        assert sorted(sum(expected, [])) == sorted(
            user for user in range(SAMPLES) if copies[user % FILES] in mine
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 12, 6, 2), "input_shards: 3 is no multiple of the 2 workers; give one, or 1"),
        ((4, 10, 6, 2), "batch_size: 10 is no multiple of input_shards, 4"),
        ((4, 12, 3, 2), "input_shards: 4, but there are only 3 files"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        check_input_shards(*arguments)
    check_input_shards(1, 7, 1, 2)
    check_input_shards(4, 12, 4, 2)


@pytest.mark.parametrize("wrong", [(0, 3, 2), (-1, 1, 2), (0, 0, 1), (0, 1, 2, 2, 2)])
def test_a_part_lies_within_its_whole(wrong):
    with pytest.raises(ValueError, match="not a part of a whole"):
        Part(*wrong)
