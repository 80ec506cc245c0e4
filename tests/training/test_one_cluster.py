"""One cluster: a compiled step leads to the weights, metrics and errors of the plain one."""

import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.config.task import TaskConfig
from diffumin_tf.errors import NotFiniteError
from diffumin_tf.input.batch import open_ended
from diffumin_tf.input.dataset import batch_of
from diffumin_tf.input.records import encode
from diffumin_tf.training import optimizers
from diffumin_tf.training.engine import Wishes
from diffumin_tf.training.one_cluster import OneCluster, fits
from diffumin_tf.training.state import TrainingState
from diffumin_tf.training.strategy import one_device
from diffumin_tf.training.synchronous import SynchronousEngine
from tests.several_values import SEVERAL_FEATURES, SEVERAL_SCHEMA, several_samples
from tests.small_log import CONFIG
from tests.small_model import BUCKETS, LEAN, batch, build, path_of, shared_batches, undone

SIZE = 16
RATES = {"warmup_steps": 3, "embedding_l2": 0.01}
LOOP = {**LEAN, "infer_timesteps": 3, "lamda1": 1.0, "lamda2": 1.0}
PEER = {**LEAN, "search_len": 3, "hash_bits": 12, "search_field": "category_list"}


def several(model, seed):
    """Of samples with fields of several values, their histories in groups."""
    samples = tf.constant(list(encode(SEVERAL_SCHEMA, several_samples(SIZE, seed))), tf.string)
    return batch_of(SEVERAL_SCHEMA, path_of(model, SEVERAL_SCHEMA, BUCKETS), "user", samples)


# What a model is, and its batches. Few, each with much in it: compiling takes most of the time.
MODELS = {
    "several values, groups, dropout, shares": (
        {
            **LOOP,
            "features": SEVERAL_FEATURES,
            "channel_share": True,
            "dropout_rate": 0.3,
            "stop_interest_gradient": False,
        },
        several,
    ),
    "TWIN, shared histories": (
        {**PEER, "subseq_len": 0, "input_units": ["handle_peer_unit:TWIN"]},
        lambda model, seed: shared_batches(model, seed=seed)[0],
    ),
}


class Spied(OneCluster):
    """Remembers what kind of tensors the cluster was given."""

    def _learn_from(self, *given):
        self.given = given
        return super()._learn_from(*given)


def models(changes, count=2):
    schema = [SEVERAL_SCHEMA] if changes.get("features") is SEVERAL_FEATURES else []
    for _ in range(count):
        model, path = build(*schema, **changes)
        model.compile(*optimizers.build(TaskConfig.model_validate({**CONFIG, **changes, **RATES})))
        yield model, path


def state_of(model):
    slots = [*model.optimizer.variables, *model.table_optimizer.variables]
    return [*model.variables, *slots]


@pytest.fixture(scope="module", params=MODELS)
def trained(request):
    """A model after three compiled steps, another after as many plain ones, and their losses."""
    changes, batch_for = MODELS[request.param]
    (one, _), (plain, _) = models(changes)
    batches = [batch_for(one, seed) for seed in range(3)]
    spec = open_ended(batches[0])
    assert fits(one, spec)
    cluster = Spied(one, len(batches[0].label))
    update = tf.function(cluster.update, input_signature=[spec], autograph=False)
    losses = [(update(inputs), plain.update(inputs)) for inputs in batches]
    return types.SimpleNamespace(
        one=one, plain=plain, update=update, losses=losses, batches=batches, cluster=cluster
    )


def test_three_compiled_steps_lead_to_what_three_plain_ones_do(trained):
    for found, expected in trained.losses:
        assert found.keys() == expected.keys()
        for name, loss in expected.items():
            np.testing.assert_allclose(found[name], loss, rtol=2e-5, err_msg=name)
    without_gradient = undone(trained.plain) if len(trained.plain.losses) else set()
    for found, expected in zip(state_of(trained.one), state_of(trained.plain), strict=True):
        if expected.ref() in without_gradient or "beta" in expected.name:
            continue
        tolerance = 1e-3 * np.abs(expected).max() + 1e-7
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0, err_msg=expected.name)
    for found, expected in zip(trained.one.metrics, trained.plain.metrics, strict=True):
        np.testing.assert_allclose(found.result(), expected.result(), rtol=1e-5)


def test_the_same_state_and_batch_lead_to_the_same_bits(trained):
    kept = [*state_of(trained.one), *trained.one.auc.variables]
    before, after = [variable.numpy() for variable in kept], []
    for _ in range(2):
        trained.update(trained.batches[0])
        after.append([variable.numpy() for variable in kept])
        for variable, old in zip(kept, before, strict=True):
            variable.assign(old)
    for one, other in zip(*after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loss_that_is_not_finite_raises_and_changes_no_weight_and_no_slot(trained):
    inputs, model = trained.batches[0], trained.one
    bad = inputs._replace(dense=tf.fill(inputs.dense.shape, np.float32("nan")))
    kept = [*model.trainable_variables, *model.auc.variables]
    kept += [*model.optimizer.variables, *model.table_optimizer.variables]
    before = [variable.numpy() for variable in kept]
    with pytest.raises(tf.errors.InvalidArgumentError, match="training loss"):
        trained.update(bad)
    for variable, old in zip(kept, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old, variable.name)


def test_the_cluster_neither_scatters_nor_waits_for_the_host(trained):
    cluster = trained.cluster
    given = tf.nest.map_structure(
        lambda x: x if x is None else tf.zeros(x.shape, x.dtype), cluster.given
    )
    text = cluster._learn.experimental_get_compiler_ir(*given)(stage="hlo")
    assert "dot(" in text and not re.search(r"\b(scatter|custom-call|infeed|outfeed)\(", text)


def test_units_that_embed_whole_histories_or_do_it_all_in_call_do_not_fit():
    for name, expected in {"MeanPooling": False, "SIM_soft": False, "NoHistory": True}.items():
        model, path = build(**PEER, input_units=[f"handle_peer_unit:{name}"])
        assert fits(model, open_ended(batch(path))) == expected, name

    class Twice(type(model.units[0])):
        def call(self, inputs, training=False):
            return 2.0 * super().call(inputs, training)

    model.units = [Twice(model.units[0].config, model.layout)]
    assert not fits(model, open_ended(batch(path)))


def test_what_a_unit_looks_for_may_depend_on_all_of_a_sample_but_its_history():
    ((model, path),) = models(PEER | {"input_units": ["handle_peer_unit:NoHistory"]}, 1)

    class Asking(type(model.units[0])):
        def vectors(self, candidate, inputs):
            return tf.concat([candidate, inputs.dense], axis=1)

    model.units[0].__class__ = Asking
    losses = OneCluster(model, SIZE).update(batch(path))
    assert np.isfinite(losses["total_loss"])


class Data:
    """Epochs of given batches, of which the first is full."""

    def __init__(self, batches):
        self.batches, self.spec = batches, open_ended(batches[0])
        self.batch_size = len(batches[0].label)

    def epoch(self, number, skip):
        return iter(self.batches[skip:])


def engine_of(model, batches, jit_compile=True):
    return SynchronousEngine(model, Data(batches), TrainingState(), one_device(), jit_compile)


SCRIPT = """
import glob, sys
from tests.training.test_one_cluster import *
few = {"num_heads": 1, "dff_factor": 1, "use_cmic": False, "subseq_len": 0}
(model, path), = models({**LEAN, "infer_timesteps": 3, **few}, 1)
batches = [shared_batches(model, seed=0)[0], shared_batches(model, seed=1)[0]]
# The last batch of an epoch, and histories of other lengths.
batches += [shared_batches(model, seed=2, rows=slice(5))[0]]
batches += [shared_batches(model, histories=[(30, list(range(len(batches[0].label))))])[0]]
for _ in engine_of(model, batches).epoch(Wishes):
    print(len(glob.glob(sys.argv[1] + "/*before_optimizations.txt")))
"""


def test_nothing_is_compiled_after_the_first_step_and_the_turns_of_loops_are_known(tmp_path):
    # LLVM comes after what is tested here.
    flags = f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={"XLA_FLAGS": flags, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    modules = [int(line) for line in done.stdout.split()]
    assert len(modules) == 4 and len(set(modules)) == 1 and modules[0] > 1
    loops = [
        line
        for path in pathlib.Path(tmp_path).glob("*after_optimizations.txt")
        for line in path.read_text().splitlines()
        if re.search(r"\bwhile\(", line)
    ]
    assert loops and all("known_trip_count" in line for line in loops)


def test_the_engine_takes_the_plain_step_for_a_smaller_batch_and_tells_of_a_loss_not_finite():
    (one, path), (plain, _) = models(PEER | {"input_units": ["handle_peer_unit:NoHistory"]})
    batches = [batch(path, 0), batch(path, 1), batch(path, 2, size=5)]
    for model in (one, plain):
        engine = engine_of(model, batches, jit_compile=model is one)
        assert len(list(engine.epoch(Wishes))) == 3 and engine._state.samples == 37
        nan = tf.fill(batches[0].dense.shape, np.float32("nan"))
        engine._data.batches.append(batches[0]._replace(dense=nan))
        engine._state.batch = 3
        with pytest.raises(NotFiniteError, match="step 4: the loss is not finite"):
            list(engine.epoch(Wishes))
        del engine._data.batches[-1]
    for found, expected in zip(state_of(one), state_of(plain), strict=True):
        tolerance = 1e-4 * np.abs(expected).max() + 1e-7
        np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0, err_msg=expected.name)
