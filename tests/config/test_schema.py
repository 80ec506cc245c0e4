"""The schema: ranges, history fields of both kinds, id spaces, mistakes."""

import pytest

from diffumin_tf.config.schema import DataStruct
from diffumin_tf.errors import ConfigError

CONTENT = {
    "label": {"column": ["click"]},
    "cat_feature": {"column": ["user", "shop_id", "shop_id_list[0:3]", "x[0]", "x[1]"]},
    "sequence_feature": {"column": ["item_list"], "max_len": 7},
    "multi_feature": {"column": ["tags", "genres"]},
    "id_space": {"item_list": "goods", "tags": "tag"},
    "----": "a separator",
}


def test_ranges_expand_and_collapse_again():
    schema = DataStruct.from_dict(CONTENT)
    assert schema.cat_feature[2:5] == ("shop_id_list[0]", "shop_id_list[1]", "shop_id_list[2]")
    columns = schema.to_dict()["cat_feature"]["column"]
    assert columns == ["user", "shop_id", "shop_id_list[0:3]", "x[0:2]"]
    assert DataStruct.from_dict(schema.to_dict()) == schema


def test_fields_of_several_values_are_kept_apart_and_leave_no_trace_where_there_are_none():
    schema = DataStruct.from_dict(CONTENT)
    assert schema.multi_feature == ("tags", "genres")
    assert schema.ragged == ("item_list", "tags", "genres")
    assert [schema.id_space(name) for name in schema.multi_feature] == ["tag", "genres"]
    without = {key: CONTENT[key] for key in ("label", "cat_feature")}
    assert "multi_feature" not in DataStruct.from_dict(without).to_dict()


def test_a_history_field_is_found_by_name_whichever_way_it_is_stored():
    schema = DataStruct.from_dict(CONTENT)
    fixed, variable = schema.sequence("shop_id_list"), schema.sequence("item_list")
    assert (fixed.start, fixed.max_len) == (2, 3)
    assert (variable.start, variable.max_len) == (None, 7)
    assert schema.sequence("x").max_len == 2


def test_a_history_field_shares_the_space_of_its_base_name_unless_told():
    schema = DataStruct.from_dict(CONTENT)
    assert schema.id_space("shop_id_list") == "shop_id" == schema.id_space("shop_id")
    assert schema.id_space("item_list") == "goods"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"column": ["a"]}}, "unknown key 'labels'.*did you mean 'label'?"),
        ({"label": {"column": ["a", "b"]}}, "exactly one column"),
        ({"cat_feature": ["a"]}, "cat_feature: .*got \\['a'\\]"),
        ({"cat_feature": {"column": ["a", "a"]}}, "cat_feature.column: column 'a' is listed twice"),
        ({"cat_feature": {"column": ["a[3:3]"]}}, "empty range 'a\\[3:3\\]'"),
        ({"sequence_feature": {"column": ["s"]}}, "sequence_feature.max_len: "),
        ({"sequence_feature": {"column": ["user"], "max_len": 3}}, "'user' stands in cat_feature"),
        ({"multi_feature": {"column": ["user"]}}, "'user' is a column of cat_feature too; rename"),
        ({"multi_feature": {"column": ["click"]}}, "'click' is a column of label too"),
        ({"multi_feature": {"column": ["item_list"]}}, "'item_list' is a history field too"),
        ({"multi_feature": {"column": ["x"]}}, "'x' is a history field too"),
        ({"multi_feature": {"column": ["label"]}}, "'label' is a record key too"),
        ({"multi_feature": {"column": ["g[0:2]"]}}, r"'g\[0\]': write 'g' for all values"),
        ({"multi_feature": {"column": ["g", "g"]}}, "column 'g' is listed twice"),
        ({"id_space": ["a"]}, "id_space: "),
        ({"id_space": {"item": "goods"}}, "id_space: 'item'.*did you mean 'item_list'"),
    ],
)
def test_every_mistake_names_file_and_value(change, message):
    with pytest.raises(ConfigError, match=f"^here: .*{message}"):
        DataStruct.from_dict({**CONTENT, **change}, source="here")


def test_an_unknown_column_names_the_nearest():
    schema = DataStruct.from_dict(CONTENT)
    with pytest.raises(ConfigError, match="no column 'shop'; did you mean 'shop_id'?"):
        schema.position("cat_feature", "shop")
    with pytest.raises(ConfigError, match="no column 'genre'; did you mean 'genres'?"):
        schema.position("cat_feature", "genre")
    with pytest.raises(ConfigError, match="no history field 'item_lst'.*'item_list'"):
        schema.sequence("item_lst")
