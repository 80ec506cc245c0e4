"""Ids of a split, counted as often as samples see them."""

import pathlib

import numpy as np
import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input.records import encode
from diffumin_tf.input.sightings import id_batches
from diffumin_tf.input.vocabulary import count_ids, write_vocabulary
from tests.input.grouped import GROUPED_SCHEMA, grouped_samples, ungrouped
from tests.input.part_files import encoded, numbered, write_parts
from tests.several_values import SEVERAL_SCHEMA, several_samples


def test_ids_of_columns_and_of_both_kinds_of_history_are_counted(tmp_path, schema):
    data = numbered(50)
    files = write_parts(tmp_path / "d", encoded(schema, 50))
    ids = np.concatenate(list(id_batches(files, schema, ["item", "fixed_list", "item_list"], 16)))
    columns = data.cat_feature[:, [1, 4, 5, 6, 7]].ravel()
    expected = np.concatenate([columns, data.sequences["item_list"][0]])
    np.testing.assert_array_equal(np.sort(ids[ids > 0]), np.sort(expected))


def test_ids_of_fields_of_several_values_are_counted_each_time_they_stand_there(tmp_path):
    data = several_samples(20, seed=0)
    files = write_parts(tmp_path / "several", encode(SEVERAL_SCHEMA, data))
    ids = np.concatenate(list(id_batches(files, SEVERAL_SCHEMA, ["user", "genres"], 8)))
    expected = np.concatenate([data.cat_feature[:, 0], data.multi["genres"][0]])
    np.testing.assert_array_equal(np.sort(ids), np.sort(expected))


@pytest.mark.parametrize("at_once", [50, 10**6])
def test_groups_give_the_vocabulary_of_the_samples_they_hold(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("diffumin_tf.input.vocabulary._IDS_AT_ONCE", at_once)
    schema, data = GROUPED_SCHEMA, grouped_samples(seed=3)
    fields = ["user", "item", "city", "tags", "genres", "item_list"]
    one, grouped = (list(encode(schema, samples)) for samples in (ungrouped(data), data))
    records = {"one": one, "grouped": grouped, "mixed": grouped[:3] + one[7:]}
    files = {name: write_parts(tmp_path / name, content, 2) for name, content in records.items()}
    written = []
    for paths in files.values():
        path = pathlib.Path(paths[0]).parent / "vocabulary.txt"
        ids = id_batches(paths, schema, fields, 3)
        write_vocabulary(str(path), ids.as_numpy_iterator(), 3)
        written.append([path.read_bytes(), (path.parent / "vocabulary_pending.npy").read_bytes()])
    assert written == [written[0]] * 3
    assert written[0][0].count(b"\n") > 20


def test_what_lies_behind_max_len_is_counted_in_no_kind_of_record(tmp_path):
    short = GROUPED_SCHEMA.to_dict()
    short["sequence_feature"]["max_len"] = 5
    short = DataStruct.from_dict(short)
    data = grouped_samples()
    for name, samples in {"one": ungrouped(data), "grouped": data}.items():
        files = write_parts(tmp_path / name, encode(GROUPED_SCHEMA, samples))
        counted = count_ids(id_batches(files, short, ["item_list"]).as_numpy_iterator())
        ids, start, stop = data.sequences["item_list"]
        seen = [ids[a : min(a + 5, b)] for a, b in zip(start, stop, strict=True)]
        expected = np.unique(np.concatenate(seen), return_counts=True)
        np.testing.assert_array_equal(counted, expected)
