"""Units by name: only classes in handle_layer/handle_lib, never an import of what a config says."""

import sys

import pytest

from diffumin_tf import registry
from diffumin_tf.errors import ConfigError


def test_both_units_are_there_under_their_original_names():
    assert {"handle_rec_unit:Eleme_DiffuMIN", "handle_rec_unit:Long_term_DiffuMIN"} <= set(
        registry.input_units()
    )
    from handle_layer.handle_lib.handle_rec_unit import Eleme_DiffuMIN

    assert registry.input_unit("handle_rec_unit:Eleme_DiffuMIN") is Eleme_DiffuMIN


@pytest.mark.parametrize("name", ["antigravity:fly", "os:system", "handle_base:InputUnit", "x"])
def test_other_names_are_refused_and_not_imported(name):
    with pytest.raises(ConfigError, match="unknown unit.*known: .*handle_rec_unit:Eleme_DiffuMIN"):
        registry.input_unit(name)
    assert "antigravity" not in sys.modules


def test_a_misspelt_unit_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'handle_rec_unit:Eleme_DiffuMIN'"):
        registry.input_unit("handle_rec_unit:Eleme_DifuMIN")
