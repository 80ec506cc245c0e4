"""Models with random weights, and folders of runs as training leaves them."""

import json

import numpy as np
import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.model import RankingModel
from diffumin_tf.run import folder as run_folder
from diffumin_tf.run.warm_start import named_variables
from diffumin_tf.training import checkpoints, optimizers
from diffumin_tf.training.state import TrainingState
from tests.small_log import CONFIG, SCHEMA
from tests.small_model import LEAN, SCHEMA_OBJECT

PLAIN = {**LEAN, "use_omie": False, "subseq_len": 0}
IDS = [30, 10, 50, 20, 40]


def new_model(ids=None, seed=0, **changes):
    """A compiled model with random values everywhere, slots included; its configuration."""
    kind = {"kind": "vocabulary"} if ids else {"kind": "hash", "rows": 997}
    changes = {"embedding": kind, **PLAIN, **changes}
    config = TaskConfig.model_validate({**CONFIG, **changes})
    rows = len(ids) + 1 if ids else config.embedding.rows
    model = RankingModel(config, SCHEMA_OBJECT, rows)
    model.create_weights()
    model.compile(*optimizers.build(config))
    rng = np.random.default_rng(seed)
    for variable in [*model.variables, *slots(model)]:
        variable.assign(tf.cast(rng.uniform(0.5, 1.5, variable.shape), variable.dtype))
    for optimizer in (model.optimizer, model.table_optimizer):
        optimizer.iterations.assign(seed)
    return model, config


def slots(model):
    return [*model.optimizer.variables[1:], *model.table_optimizer.variables[1:]]


def write_vocabulary(folder, ids):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / run_folder.VOCABULARY
    path.write_text("".join(f"{i}\n" for i in ids))
    return str(path)


def save(folder, model, config, ids=None, step=7, best=True, latest=True):
    """Makes a run's folder as training leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_config(str(folder), config)
    (folder / "data_struct.json").write_text(json.dumps(SCHEMA))
    if ids:
        write_vocabulary(folder, ids)
    saved = checkpoints.Checkpoints(str(folder), model, TrainingState(step=step), keep=3)
    if best:
        saved.save_best()
    if latest:
        saved.save()
    return str(folder)


def values(model):
    """Values of weights and slots, so that they can be compared later."""
    weights = {name: parts[0].numpy() for name, parts in named_variables(model).items()}
    return weights, [slot.numpy() for slot in slots(model)]


def assert_same(one, other):
    for value, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(value, expected)


def assert_same_state(one, other):
    assert_same(values(one)[0].values(), values(other)[0].values())
    assert_same(values(one)[1], values(other)[1])
