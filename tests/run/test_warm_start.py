"""Starting from an earlier run: what is taken over, and what stays fresh."""

import numpy as np
import pytest
import tensorflow as tf

from diffumin_tf.run import warm_start
from diffumin_tf.run.warm_start import TABLE, named_variables, slots_of
from diffumin_tf.training import optimizers
from tests.run.earlier_runs import (
    IDS,
    assert_same,
    assert_same_state,
    new_model,
    save,
    slots,
    values,
    write_vocabulary,
)
from tests.small_model import SCHEMA_OBJECT, batch, path_of


def test_each_weight_has_one_name_and_metrics_have_none():
    model, _ = new_model(use_omie=True, subseq_len=3)
    names = named_variables(model)
    metrics = {id(v) for metric in model.metrics for v in metric.variables}
    weights = [v for v in model.variables if id(v) not in metrics]
    draws = [v for v in weights if v.name.partition(":")[0].endswith("draws")]
    assert {id(v) for parts in names.values() for v in parts} == (
        {id(v) for v in weights} - {id(v) for v in draws}
    )
    assert next(iter(names)) == TABLE
    for name in (
        "tower/hidden/0/kernel",
        "tower/hidden/1/moving_mean",
        "units/0/_generate/sampling_noise",
        "units/0/_generate/denoiser/blocks/0/attention/query_projection/kernel",
    ):
        assert names[name][0].shape.rank


@pytest.mark.parametrize("changes", [{}, {"use_omie": True, "subseq_len": 3}], ids=["plain", "all"])
def test_weights_slots_and_numbers_of_updates_are_taken_over(tmp_path, changes):
    model, config = new_model(seed=7, **changes)
    folder = save(tmp_path / "run", model, config)
    later, _ = new_model(seed=8, **changes)
    result = warm_start.warm_start(later, folder)
    assert_same_state(later, model)
    assert result == (list(named_variables(model)), [], 996, 0, True)
    assert int(later.optimizer.iterations) == int(later.table_optimizer.iterations) == 7


def test_metrics_are_left_alone(earlier):
    later, _ = new_model(seed=8)
    before = [v.numpy() for v in later.auc.variables]
    warm_start.warm_start(later, earlier[0])
    assert_same([v.numpy() for v in later.auc.variables], before)


def test_random_streams_begin_anew_but_the_noise_of_sampling_stays(tmp_path):
    changes = {"use_omie": True, "dropout_rate": 0.1}
    model, config = new_model(seed=7, **changes)
    later, _ = new_model(seed=8, **changes)
    for each, position in ((model, 7), (later, 3)):
        streams = [v for v in each.variables if v.name.partition(":")[0].endswith("draws")]
        assert len(streams) > 1
        for stream in streams:
            stream.assign(position)
    warm_start.warm_start(later, save(tmp_path / "run", model, config))
    assert {int(v) for v in later.variables if "draws" in v.name} == {3}
    noise = "units/0/_generate/sampling_noise"
    assert_same(named_variables(later)[noise], named_variables(model)[noise])


def test_training_goes_on_as_the_earlier_run_would_have(tmp_path):
    model, config = new_model(seed=3)
    path = path_of(model, SCHEMA_OBJECT, (config.seq_len,))
    for seed in range(2):
        model.train_step(batch(path, seed))
    folder = save(tmp_path / "run", model, config)
    later, _ = new_model(seed=8)
    warm_start.warm_start(later, folder)
    for seed in range(2, 4):
        for each in (model, later):
            each.train_step(batch(path, seed))
    assert_same_state(later, model)


@pytest.mark.parametrize("left", ["both", "best", "checkpoints"])
def test_weights_are_the_best_ones_and_slots_the_latest(tmp_path, left):
    best, config = new_model(seed=5)
    latest, _ = new_model(seed=9)
    if left != "checkpoints":
        save(tmp_path / "run", best, config, step=5, latest=False)
    if left != "best":
        save(tmp_path / "run", latest, config, step=9, best=False)
    later, _ = new_model(seed=8)
    before = values(later)[1]
    result = warm_start.warm_start(later, str(tmp_path / "run"))
    expected = latest if left == "checkpoints" else best
    assert_same(values(later)[0].values(), values(expected)[0].values())
    assert_same(values(later)[1], before if left == "best" else values(latest)[1])
    assert result.with_slots == (left != "best")
    assert int(later.optimizer.iterations) == (8 if left == "best" else 9)


@pytest.mark.parametrize("at_once", [2, 100])
@pytest.mark.parametrize(
    "ids",
    [[*IDS, 70, 60], [20, 99, 30, 10], [70, 60]],
    ids=["grown", "other_order", "none_in_common"],
)
def test_a_row_goes_where_its_id_is_now(tmp_path, monkeypatch, ids, at_once):
    monkeypatch.setattr(warm_start, "_ROWS_AT_ONCE", at_once)
    model, config = new_model(IDS, seed=7)
    folder = save(tmp_path / "earlier", model, config, IDS)
    later, _ = new_model(ids, seed=8)
    fresh = [later.embedding.table.numpy(), slots(later)[-1].numpy()]
    result = warm_start.warm_start(later, folder, vocabulary_path=write_vocabulary(tmp_path, ids))
    old = [model.embedding.table.numpy(), slots(model)[-1].numpy()]
    for table, before, initial in zip(
        [later.embedding.table.numpy(), slots(later)[-1].numpy()], old, fresh, strict=True
    ):
        np.testing.assert_array_equal(table[0], before[0])
        for row, i in enumerate(ids, start=1):
            expected = before[1 + IDS.index(i)] if i in IDS else initial[row]
            np.testing.assert_array_equal(table[row], expected)
    kept = len(set(ids) & set(IDS))
    assert (result.rows_kept, result.rows_new) == (kept, len(ids) - kept)


def test_a_pattern_can_leave_the_tower_out(earlier):
    folder, model = earlier
    later, _ = new_model(seed=8)
    before, before_slots = values(later)
    result = warm_start.warm_start(later, folder, "^(?!tower/)")
    assert result.fresh == [n for n in before if n.startswith("tower/")] and result.copied
    after, expected = values(later)[0], values(model)[0]
    for name in before:
        source = before if name in result.fresh else expected
        np.testing.assert_array_equal(after[name], source[name])
    kernel = [s.shape for s in before_slots].index(later.tower.hidden[0].kernel.shape)
    assert_same(values(later)[1][kernel : kernel + 2], before_slots[kernel : kernel + 2])
    assert int(later.optimizer.iterations) == 7


def test_several_patterns_add_up_and_the_table_can_stay_fresh(earlier):
    folder, model = earlier
    later, _ = new_model(seed=8)
    table, accumulator = later.embedding.table.numpy(), slots(later)[-1].numpy()
    result = warm_start.warm_start(later, folder, ("tower/logit", "hidden/0"))
    assert sorted(result.copied) == [
        "tower/hidden/0/kernel",
        "tower/logit/bias",
        "tower/logit/kernel",
    ]
    assert (result.rows_kept, result.rows_new) == (0, 0)
    np.testing.assert_array_equal(later.embedding.table, table)
    np.testing.assert_array_equal(slots(later)[-1], accumulator)
    np.testing.assert_array_equal(later.tower.logit.kernel, model.tower.logit.kernel)
    assert int(later.table_optimizer.iterations) == 8


def test_with_the_table_alone_adam_starts_afresh(earlier):
    later, _ = new_model(seed=8)
    assert warm_start.warm_start(later, earlier[0], f"^{TABLE}$").copied == [TABLE]
    assert (int(later.optimizer.iterations), int(later.table_optimizer.iterations)) == (8, 7)


def cut(variable):
    """A matrix in two parts, as two servers hold it."""
    if variable.shape.rank < 2 or variable.shape[0] < 5:
        return [variable]
    halves = (variable[:4], variable[4:])
    return [tf.Variable(half, name=f"half/part_{n}") for n, half in enumerate(halves)]


def share(model, config):
    """Makes a model's table and a kernel as a strategy with two servers does."""
    for layer, name in ((model.embedding, "table"), (model.tower.hidden[0], "kernel")):
        whole = getattr(layer, name)
        layer._trainable_weights = [w for w in layer._trainable_weights if w is not whole]
        setattr(layer, name, tf.__internal__.distribute.ShardedVariable(cut(whole)))
    model.compile(*optimizers.build(config))


def joined(model):
    """Values of weights and slots, by name, put together."""
    weights = {n: [parts] for n, parts in named_variables(model).items()}
    return {
        (name, kind): np.concatenate([np.atleast_1d(part.numpy()) for part in parts])
        for of in (weights, slots_of(model))
        for name, kinds in of.items()
        for kind, parts in enumerate(kinds, start=of is not weights)
    }


def test_servers_get_their_parts(tmp_path):
    """Also from a run that had servers."""
    model, config = new_model(IDS, seed=7)
    folder = save(tmp_path / "one", model, config, IDS)
    ids = [20, 99, 30, 10, 70, 60]
    later, _ = new_model(ids, seed=8)
    share(later, config)
    fresh, old = joined(later), joined(model)
    warm_start.warm_start(later, folder, vocabulary_path=write_vocabulary(tmp_path, ids))
    now = joined(later)
    assert now.keys() == old.keys() and len(now) == len(joined(model))
    source = [0, *(1 + IDS.index(i) if i in IDS else -1 for i in ids)]
    for name, value in now.items():
        expected = old[name]
        if name[0] == TABLE:
            rows = [old[name][r] if r >= 0 else fresh[name][n] for n, r in enumerate(source)]
            expected = np.stack(rows)
        np.testing.assert_array_equal(value, expected, str(name))
    folder = save(tmp_path / "servers", later, config, ids)
    again, _ = new_model(ids, seed=9)
    warm_start.warm_start(again, folder, vocabulary_path=write_vocabulary(tmp_path, ids))
    for name, value in joined(again).items():
        np.testing.assert_array_equal(value, now[name], str(name))
