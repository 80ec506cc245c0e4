"""Pieces of files that workers of parameter servers are given."""

import json

import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.config.task import Features, TaskConfig
from diffumin_tf.input.damage import FileCheck
from diffumin_tf.input.features import FeatureLayout, FeaturePath
from diffumin_tf.input.records import encode
from diffumin_tf.input.vocabulary import HashedRows
from diffumin_tf.training.asynchronous.piece_work import AsynchronousState, PieceReader
from tests.input.grouped import GROUPED_SCHEMA, SIZES, grouped_samples
from tests.input.part_files import encoded, small_path, small_schema, users_of, write_parts
from tests.small_log import SCHEMA, write_experiment


def test_the_state_comes_back_from_its_text():
    state = AsynchronousState(step=7, epoch=1, pieces_done=[0, 3])
    other = AsynchronousState()
    other.deserialize(state.serialize())
    assert other == state
    assert json.loads(state.serialize())["pieces_done"] == [0, 3]
    state.next_epoch()
    assert (state.epoch, state.pieces_done) == (2, [])


@pytest.mark.parametrize(("files", "pieces"), [(3, 9), (1, 8)])
def test_pieces_hold_every_record_once(tmp_path, files, pieces):
    config = write_experiment(tmp_path, per_day=50, batch_size=4, input_shards=2)
    config = TaskConfig.model_validate_json((config / "task_conf.json").read_text())
    paths = sorted(map(str, (tmp_path / "data").glob("*/part-*")))[:files]
    schema = DataStruct.from_dict(SCHEMA)
    layout = FeatureLayout.of(config.features, schema)
    path = FeaturePath(schema, layout, config.seq_len, HashedRows(997))
    reader = PieceReader(schema, path, paths, FileCheck(schema), 4, 100, 16, 2, "user_id")
    assert reader.pieces == pieces
    found = []
    for first in range(0, pieces, 2):
        together = list(range(first, min(first + 2, pieces)))
        names = tf.constant([reader.file_of(piece) for piece in together])
        for batch in reader.batches(tf.constant(together), names, tf.constant(1, tf.int64)):
            assert len(batch.label) == len(batch.user) <= 4
            found += batch.dense[:, 0].numpy().tolist()
    expected = [
        tf.train.Example.FromString(record).features.feature["dense_feature"].float_list.value[0]
        for record in tf.data.TFRecordDataset(paths).as_numpy_iterator()
    ]
    assert found != expected and sorted(found) == sorted(expected)


def test_pieces_of_records_of_several_impressions_hold_every_sample_once(tmp_path):
    samples = grouped_samples([*SIZES * 8, (200, 9)])
    paths = write_parts(tmp_path / "data", encode(GROUPED_SCHEMA, samples), 3)
    features = Features(candidate=("item",), behaviours=("item_list",))
    layout = FeatureLayout.of(features, GROUPED_SCHEMA)
    path = FeaturePath(GROUPED_SCHEMA, layout, 10, HashedRows(997))
    reader = PieceReader(
        GROUPED_SCHEMA, path, paths, FileCheck(GROUPED_SCHEMA), 32, 100, 5, 2, "time"
    )
    found = []
    for together in ([0, 1], [*range(2, reader.pieces)]):
        names = tf.constant([reader.file_of(piece) for piece in together])
        batches = reader.batches(tf.constant(together), names, tf.constant(1, tf.int64))
        users = users_of(batches)
        assert [len(some) for some in users[:-1]] == [32] * (len(users) - 1)
        found += sum(users, [])
    assert sorted(found) == list(range(len(samples)))


def test_the_rest_of_a_damaged_file_is_no_piece(tmp_path):
    schema = small_schema()
    good = encoded(schema, 20)
    files = write_parts(tmp_path / "data", [*good[:13], b"no example", *good[13:]])
    check = FileCheck(schema, 8, lambda line: None)
    check.look(files)
    reader = PieceReader(schema, small_path(schema), files, check, 4, 100, 16, 1, "user_id")
    names, seed = tf.constant([reader.file_of(0)] * reader.pieces), tf.constant(1, tf.int64)
    batches = reader.batches(tf.range(reader.pieces), names, seed)
    assert sorted(sum(users_of(batches), [])) == list(range(13))
