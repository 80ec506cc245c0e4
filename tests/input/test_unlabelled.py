"""Records without labels, in both layouts: batches as with them, no label overlooked."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import DataError
from diffumin_tf.input import records
from diffumin_tf.input.chunks import Chunks
from diffumin_tf.input.dataset import Batches
from diffumin_tf.input.kinds import with_kinds
from diffumin_tf.input.unlabelled import refuse_labels, schema_for_scoring
from tests.column_records import COLUMNS, example_of, rows_of
from tests.input.grouped import GROUPED_SCHEMA, grouped_samples
from tests.input.part_files import numbered, small_path, write_parts


def written(folder, layout, schema, label):
    """Samples of a layout in files, and the schema of a run; `label` is the key that they keep."""
    data = numbered(20)
    if layout == "groups":
        made = list(records.encode(schema, data))
    else:
        schema = DataStruct.from_dict(COLUMNS, source="the_schema.json")
        made = list(map(example_of, rows_of(schema, data)))
    labelled = write_parts(folder / "labelled", made)
    schema = with_kinds(schema, labelled)
    examples = [tf.train.Example.FromString(serialised) for serialised in made]
    for example in examples:
        for key in {"label", "click", "auxiliary_info"} - {label}:
            example.features.feature.pop(key, None)
    bare = [example.SerializeToString() for example in examples]
    return schema, labelled, write_parts(folder / "bare", bare), made, bare


@pytest.mark.parametrize("layout", ["groups", "columns"])
def test_what_a_model_reads_is_the_same_without_labels(tmp_path, schema, layout):
    schema, labelled, bare, _, _ = written(tmp_path, layout, schema, None)
    assert schema_for_scoring(schema, labelled) == schema
    without = schema_for_scoring(schema, bare)
    assert without.label == () and without.source == "the_schema.json"
    path = small_path(schema)
    (one,) = Batches(labelled, schema, path, 32, "user_id").epoch()
    (other,) = Batches(bare, without, path, 32, "user_id").epoch()
    assert tf.is_tensor(one.label) and other.label == ()
    for name in ("fields", "histories", "dense"):
        pairs = zip(*(tf.nest.flatten(getattr(batch, name)) for batch in (one, other)), strict=True)
        for left, right in pairs:
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(("layout", "key"), [("groups", "label"), ("columns", "click")])
def test_a_label_behind_the_first_record_is_named(tmp_path, schema, layout, key):
    schema, _, _, made, bare = written(tmp_path, layout, schema, None)
    refuse_labels(schema, tf.constant(bare), 100)
    mixed = tf.constant([*bare[:7], made[7], *bare[8:]])
    message = f"record 107 of the split: key '{key}' is here, but not in the first record; training"
    with pytest.raises(DataError, match=message):
        refuse_labels(schema, mixed, 100)
    if layout == "columns":  # where it may be of another kind, too
        with pytest.raises(DataError, match="records from 100 on: .*click.* in all or in none"):
            refuse_labels(dataclasses.replace(schema, kinds={"click": "int64"}), mixed, 100)


def test_damage_is_left_to_those_who_read_on(tmp_path, schema):
    (tmp_path / "part-0").touch()
    (tmp_path / "part-1").write_bytes(b"torn")
    files = [str(tmp_path / "part-0"), str(tmp_path / "part-1")]
    assert schema_for_scoring(schema, files) == schema
    labelled = write_parts(tmp_path / "good", records.encode(schema, numbered(3)))
    assert schema_for_scoring(schema, [*files, *labelled]) == schema


def test_records_are_numbered_however_many_chunks_they_came_in():
    """The first chunk goes on with the record before."""
    labelled, other = records.encode(GROUPED_SCHEMA, grouped_samples([(5, 3), (4, 9)]))
    example = tf.train.Example.FromString(other)
    del example.features.feature["label"]
    bare = example.SerializeToString()
    first, count = tf.constant([2, 0, 3]), tf.constant([3, 3, 1])
    assert refuse_labels(GROUPED_SCHEMA, Chunks(tf.constant([bare] * 3), first, count), 7) == 8
    chunks = Chunks(tf.constant([bare, bare, labelled]), tf.constant([2, 0, 0]), count)
    with pytest.raises(DataError, match="record 8 of the split: key 'label' is here"):
        refuse_labels(GROUPED_SCHEMA, chunks, 7)
