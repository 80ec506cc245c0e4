"""Records that do not fit the schema leave gaps, so that batches before them stay as they were."""

import numpy as np
import pytest

from diffumin_tf.input import dataset
from diffumin_tf.input.damage import Repairs, resilient
from tests.input.harm import flip_data
from tests.input.part_files import encoded, small_path, small_schema, users_of, write_parts

FILES, EACH, BATCH = 3, 50, 16


@pytest.fixture(scope="module")
def schema():
    return small_schema()


@pytest.fixture(scope="module")
def path(schema):
    return small_path(schema)


@pytest.fixture(scope="module")
def contents(schema):
    """Records of each file."""
    return [encoded(schema, EACH, EACH * number) for number in range(FILES)]


@pytest.fixture
def repairs_for(tmp_path, schema):
    return lambda limit: Repairs(str(tmp_path / "repaired"), schema, limit, lambda line: None)


@pytest.fixture
def read(schema, path):
    """Users of each batch, read with repairs or without."""

    def users(files, repairs=None, shuffle=None, skip=0, **options):
        def make(files, skip):
            return dataset.batches(
                files, schema, path, BATCH, "user_id", shuffle, skip=skip, **options
            )

        return users_of(resilient(make, files, repairs, skip) if repairs else make(files, skip))

    return users


@pytest.mark.parametrize(
    ("shuffle", "options"),
    [(None, {}), ((1, 3), {}), ((60, 3), {}), ((60, 3), {"input_shards": 2})],
)
def test_records_that_do_not_fit_leave_their_places_empty(
    tmp_path, schema, contents, repairs_for, read, shuffle, options
):
    """Shuffled records meet in the buffer, so that batches before them depend on them too."""
    bad, stranger = [b"no example"] * 36, encoded(schema, 1, 999) * 36
    files, alike = [
        [
            *write_parts(tmp_path / f"{name}0", contents[0]),
            *write_parts(tmp_path / f"{name}1", [*contents[1][:20], *other, *contents[1][20:]]),
            *write_parts(tmp_path / f"{name}2", contents[2]),
        ]
        for name, other in (("bad", bad), ("alike", stranger))
    ]
    every = read(alike, shuffle=shuffle, **options)
    expected = [[user for user in batch if user != 999] for batch in every]
    assert sorted(sum(expected, [])) == list(range(3 * EACH))
    for skip in (0, 3):
        repairs = repairs_for(36)
        assert read(files, repairs, shuffle, skip, **options) == expected[skip:]
    if shuffle is None and not options:
        assert expected[5] == []  # all of it is bad
    flip_data(files[2], contents[2], 2)  # and damage of the other kind, which is met later
    flip_data(files[1], [*contents[1][:20], *bad], 3)
    gone = {2 * EACH + 2, EACH + 3}
    batches = read(files, repairs_for(38), shuffle, **options)
    assert sorted(sum(batches, [])) == [user for user in range(3 * EACH) if user not in gone]


def test_the_parts_of_a_batch_share_what_is_left_of_it(
    tmp_path, schema, path, contents, repairs_for
):
    (file,) = write_parts(
        tmp_path / "d", [*contents[0][:3], *[b"no example"] * 5, *contents[0][3:]]
    )
    repairs = repairs_for(5)
    assert repairs.mend([file])
    options = {"part": dataset.Part(0, 2, 2)}
    first, second, *_ = dataset.batches(
        repairs.files([file]), schema, path, BATCH, "user_id", **options
    )
    assert users_of([first, second]) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10]]


def test_ids_of_what_is_left_are_counted(tmp_path, schema, contents, repairs_for):
    (file,) = write_parts(tmp_path / "d", [*contents[0], b"no example"])
    (clean,) = write_parts(tmp_path / "c", contents[0])
    flip_data(file, contents[0], EACH - 1)

    def make(files, skip):
        return dataset.id_batches(files, schema, ["user", "item_list"], 10, skip)

    found = np.concatenate(list(resilient(make, [file], repairs_for(2))))
    every = list(dataset.id_batches([clean], schema, ["user", "item_list"], 1))
    np.testing.assert_array_equal(np.sort(found), np.sort(np.concatenate(every[: EACH - 1])))
