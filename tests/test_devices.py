"""Defaults that depend on the device, without one."""

import pytest

from diffumin_tf import devices
from diffumin_tf.config.task import TaskConfig

KEYS = ("jit_compile", "parallel_parts", "length_buckets")
SERVERS = {"strategy": "parameter_server"}


def config_of(**settings):
    return TaskConfig.model_validate({"input_units": ["module:Unit"], **settings})


@pytest.mark.parametrize(
    ("gpus", "settings", "expected"),
    [
        (0, {"seq_len": 50}, (False, 2, (50,))),
        (0, {"seq_len": 255}, (False, 2, (255,))),
        (0, {"seq_len": 256}, (False, 2, (64, 256))),
        (0, {"seq_len": 5000}, (False, 2, (78, 312, 1250, 5000))),
        (1, {"seq_len": 5000}, (True, 1, (5000,))),
        (8, {"seq_len": 5000, **SERVERS}, (False, 1, (5000,))),
        (0, dict(zip(KEYS, (True, 3, [30, 50]), strict=True)), (True, 3, (30, 50))),
        (1, dict(zip(KEYS, (False, 3, [30, 50]), strict=True)), (False, 3, (30, 50))),
    ],
)
def test_what_is_left_open_has_the_default_of_the_device(monkeypatch, gpus, settings, expected):
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    config = config_of(**settings)
    resolved = devices.with_defaults(config)
    assert tuple(getattr(resolved, key) for key in KEYS) == expected
    assert devices.with_defaults(resolved) == resolved
    others = set(TaskConfig.model_fields) - set(KEYS)
    assert all(getattr(config, key) == getattr(resolved, key) for key in others)


@pytest.mark.parametrize(
    ("gpus", "settings", "line"),
    [
        (0, {}, "no GPU: jit_compile false, parallel_parts 2, length_buckets [50]"),
        (
            1,
            {"jit_compile": False, "length_buckets": [20, 50]},
            "1 GPU: jit_compile false (set), parallel_parts 1, length_buckets [20, 50] (set)",
        ),
        (
            8,
            {},
            "8 GPUs, of which strategy 'one_device' uses one: jit_compile true, parallel_parts 1, "
            "length_buckets [50]; XLA compiles the first step, which takes a minute or so",
        ),
        (8, SERVERS, "8 GPUs: jit_compile false, parallel_parts 1, length_buckets [50]"),
    ],
)
def test_the_line_at_the_start_says_what_is_in_force_and_what_was_set(
    monkeypatch, gpus, settings, line
):
    monkeypatch.setattr(devices, "gpus", lambda: gpus)
    assert devices.describe(config_of(**settings)) == line
