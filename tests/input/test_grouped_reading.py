"""Batches of records of several impressions: the samples that records of one would give."""

import itertools

import numpy as np
import pytest

from diffumin_tf.config.task import Features
from diffumin_tf.input.dataset import Batches, Part
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from diffumin_tf.input.records import encode
from diffumin_tf.input.vocabulary import HashedRows
from tests.input.grouped import GROUPED_SCHEMA, MAX_LEN, SIZES, grouped_samples, ungrouped
from tests.input.part_files import users_of, write_parts

FEATURES = Features(
    user=("user", "city"),
    candidate=("item", "genres"),
    context=("hour", "tags"),
    behaviours=("category_list", "item_list"),
    dense=("age", "price"),
)
# Which samples come when does not depend on what a model reads of them.
ONE_FEATURE = Features(candidate=("item",), behaviours=("item_list",))
LARGE, BATCH = (400, 60), 32


def encoded(sizes=SIZES, seed=0, one_by_one=False):
    samples = grouped_samples(sizes, seed)
    return list(encode(GROUPED_SCHEMA, ungrouped(samples) if one_by_one else samples))


def batches_of(files, seq_len=MAX_LEN, buckets=None, shuffle=None, features=FEATURES, **options):
    layout = FeatureLayout.of(features, GROUPED_SCHEMA)
    path = FeaturePath(GROUPED_SCHEMA, layout, seq_len, HashedRows(997), buckets)
    return Batches(files, GROUPED_SCHEMA, path, BATCH, "time", shuffle, **options)


def samples_of(batch, seq_len):
    """What the model gets of each sample, its behaviours padded to one length."""
    batch = batch._replace(multi=tuple(_lists(*bags) for bags in batch.multi))
    seen = [None] * len(batch.label)
    for group in batch.histories:
        for i, sample in enumerate(group.samples.numpy()):
            history, window = i, slice(min(seq_len, MAX_LEN))
            if group.windows:
                _, width = group.windows.at.shape
                history = group.windows.place[i] // width
                window = slice(group.windows.first[i], group.windows.stop[i])
            rows, mask = group.rows[history].numpy()[window], group.mask[history].numpy()[window]
            missing = [(0, seq_len - len(rows)), (0, 0)]
            seen[sample] = np.pad(rows, missing).tobytes(), np.pad(mask, missing[:1]).tobytes()
    each = batch.fields, batch.dense, batch.label, batch.user
    columns = [list(map(bytes, part.numpy())) for part in each]
    return list(zip(*columns, seen, *batch.multi, strict=True))


def _lists(rows, counts):
    return [some.tolist() for some in np.split(rows.numpy(), np.cumsum(counts)[:-1])]


@pytest.mark.parametrize(("seq_len", "buckets"), [(5, (2, 5)), (MAX_LEN, None), (40, (3, 40))])
def test_records_of_several_impressions_give_the_samples_of_records_of_one(
    tmp_path, seq_len, buckets
):
    """Also where both kinds stand in one file, and a record has more samples than a batch."""
    sizes = (*SIZES, (70, 9))
    one_by_one = encoded(sizes, 0, True) + encoded(sizes, 1, True) + encoded(sizes, 2, True)
    mixed = encoded(sizes) + encoded(sizes, 1, True) + encoded(sizes, 2)
    found, expected = (
        [
            samples_of(batch, seq_len)
            for batch in batches_of(write_parts(tmp_path / name, records), seq_len, buckets).epoch()
        ]
        for name, records in (("mixed", mixed), ("one by one", one_by_one))
    )
    assert found == expected and len(expected[-1]) < BATCH


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Six files of records of 1 to 9 impressions and of one of very many."""
    sizes = [*SIZES * 8, LARGE]
    return write_parts(tmp_path_factory.mktemp("grouped"), encoded(sizes), 6)


SAMPLES = 8 * sum(n for n, _ in SIZES) + LARGE[0]


@pytest.fixture
def read(files):
    """Times of the samples of each element, which tell them apart."""

    def times(skip=0, shuffle=(200, 3), **options):
        options |= {"features": ONE_FEATURE, "samples_per_user": 5}
        made = batches_of(files, shuffle=shuffle, **options)
        return users_of(made.dataset(skip=skip))

    return times


@pytest.mark.parametrize("shuffle", [None, (200, 2)])
def test_every_sample_comes_once_from_any_position(read, shuffle):
    every = read(shuffle=shuffle)
    assert [len(b) for b in every] == [BATCH] * (SAMPLES // BATCH) + [SAMPLES % BATCH]
    assert sorted(sum(every, [])) == list(range(SAMPLES))
    skip = 17 if shuffle else len(every)
    assert read(skip, shuffle) == every[skip:]


def test_few_samples_of_a_record_stay_together_and_the_seed_alone_decides(read):
    batches = read()
    assert read() == batches != read(shuffle=(200, 4))
    times = np.concatenate(batches)
    runs = np.split(times, np.flatnonzero(np.diff(times) != 1) + 1)
    assert max(map(len, runs)) <= 10  # two chunks may happen to meet
    assert np.median([len(run) for run in runs]) == 5


@pytest.mark.parametrize(("shards", "total", "workers", "skip"), [(1, 3, 1, 2), (2, 4, 2, 3)])
def test_parts_are_the_batches_of_one_device_and_shards_give_their_share(
    read, shards, total, workers, skip
):
    whole = read(input_shards=shards)
    assert sorted(sum(whole, [])) == list(range(SAMPLES))
    each = total // workers
    by_worker = []
    for worker in range(workers):
        part = Part(worker * each, each, total, worker, workers)
        elements = read(skip, part=part, input_shards=shards)
        by_worker.append([elements[i : i + each] for i in range(0, len(elements), each)])
    parted = itertools.zip_longest(*by_worker, fillvalue=[])
    parted = [sum(parts, []) for parts in parted]
    assert [sum(parts, []) for parts in parted] == whole[skip:]
    if shards == 1:
        size = len(whole[-1])
        assert list(map(len, parted[-1])) == [
            size * (r + 1) // total - size * r // total for r in range(total)
        ]
