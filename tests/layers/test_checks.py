import math

import pytest

from diffumin_tf.layers import checks


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.integer, [-1, 0, 3], [None, 1.5, "a", True]),
        (checks.positive_int, [1, 3], [0, -1, 2.5, "2", True, None]),
        (checks.rate, [0, 0.5], [-0.1, 1, "half", None, math.nan, True]),
        (checks.positive_number, [1, 0.1], [0, -1.0, math.nan]),
        (checks.not_negative, [0, 0.1], [-0.1, math.nan, "0"]),
        (checks.widths, [[], [1, 3]], [8, "8", [3, 0], [2.5]]),
        (lambda name, value: checks.widths(name, value, at_least=1), [[2]], [[]]),
        (lambda name, value: checks.choice(name, value, ["a", "b"]), ["a"], ["c", None]),
    ],
)
def test_good_values_pass_and_bad_ones_are_named(check, good, bad):
    for value in good:
        assert check("x", value) == value
    for value in bad:
        with pytest.raises(ValueError, match="`x` must be .* received"):
            check("x", value)
