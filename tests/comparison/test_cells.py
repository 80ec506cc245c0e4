"""Which runs a study consists of, and what they choose."""

import pytest

from diffumin_tf.comparison import cells
from diffumin_tf.comparison.study import read_study
from diffumin_tf.errors import ConfigError
from diffumin_tf.input.splits import has_split
from tests.comparison.fakes import write_study

OUT = "out"
NO_VALID = {"valid_data_start": None, "valid_data_end": None}
GRID = {"epoch": [1, 2], "lazyAdam_learning_rate": [0.001, 0.002]}


def study(folder, **changes):
    return read_study(write_study(folder, **changes))


def test_every_experiment_runs_with_every_seed_seed_by_seed(folder):
    """What an experiment sets wins over what the study sets."""
    rows = {"strong": {"exp": "exp", "set": {"epoch": 5}}, "weak": {"exp": "exp"}}
    changes = {"experiments": rows, "set": {"epoch": 3, "batch_size": 8}}
    made = cells.final_cells(study(folder, **changes), OUT, {"weak": {}, "strong": {}})
    slugs = ["strong__seed1", "weak__seed1", "strong__seed2", "weak__seed2"]
    assert [cell.slug for cell in made] == slugs
    configs = [cell.config for cell in made]
    assert [config.seed for config in configs] == [1, 1, 2, 2]
    assert [config.epoch for config in configs] == [5, 3] * 2
    assert {config.batch_size for config in configs} == {8}


def test_all_choose_from_the_same_grid_but_for_what_they_set_themselves(folder):
    rows = {"strong": {"exp": "exp", "set": {"epoch": 5}}, "weak": {"exp": "exp"}}
    rows["fixed"] = {"exp": "exp", "set": {"epoch": 1, "lazyAdam_learning_rate": 0.01}}
    made = study(folder, experiments=rows, choose=GRID, choose_seeds=[4, 5])
    rates = GRID["lazyAdam_learning_rate"]
    assert cells.grid(made, "strong") == [{"lazyAdam_learning_rate": rate} for rate in rates]
    assert len(cells.grid(made, "weak")) == 4
    assert cells.grid(made, "fixed") == [{}]
    tried = [
        (c.experiment, c.config.epoch, c.config.lazyAdam_learning_rate, c.seed)
        for c in cells.choosing_cells(made, OUT)
    ]
    strong = [("strong", 5, rate, seed) for rate in rates for seed in (4, 5)]
    weak = [("weak", epoch, rate, seed) for epoch in (1, 2) for rate in rates for seed in (4, 5)]
    assert sorted(tried) == sorted(strong + weak)


def test_cells_to_choose_by_have_no_test_split(folder):
    made = study(folder, choose=GRID, set={"test_data_path": "/gone", "test_data_end": None})
    for cell in cells.choosing_cells(made, OUT):
        assert not has_split(cell.config, "test") and has_split(cell.config, "valid")
        assert not cell.is_final
    for cell in cells.final_cells(made, OUT, {"weak": {}}):
        assert cell.config.test_data_path == "/gone" and cell.is_final


def test_the_best_mean_over_seeds_is_chosen_and_among_equals_the_first(folder, monkeypatch):
    made = study(folder, choose={"epoch": [1, 2, 3]}, choose_seeds=[1, 2])
    areas = {("strong", 1): [0.9, 0.1], ("strong", 2): [0.6, 0.7], ("strong", 3): [0.1, 0.8]}
    areas |= {("weak", epoch): [0.5, 0.5] for epoch in (1, 2, 3)}

    def valid_auc(cell):
        return areas[cell.experiment, cell.choice["epoch"]][cell.seed - 1]

    monkeypatch.setattr(cells.Cell, "valid_auc", property(valid_auc))
    chosen, tried = cells.choose(made, cells.choosing_cells(made, OUT))
    assert chosen == {"strong": {"epoch": 2}, "weak": {"epoch": 1}}
    assert tried["strong"][1] == {"settings": {"epoch": 2}, "valid_auc": [0.6, 0.7]}


def test_a_slug_is_a_file_name_that_tells_what_it_is(folder):
    long = {"deep_layers": [[number] * 60 for number in (1, 2)]}
    rows = {"a/b c |": {"exp": "exp"}, "..": {"exp": "exp"}}
    made = study(folder, experiments=rows, baseline="..", choose=long)
    slugs = [
        c.slug for c in cells.choosing_cells(made, OUT) + cells.final_cells(made, OUT, {"..": {}})
    ]
    assert len({*slugs}) == len(slugs) == 6
    assert all("/" not in slug and slug.strip(".") for slug in slugs)
    assert max(map(len, slugs)) < 140
    assert any(slug.startswith("a-b-c-__choose_deep_layers=") for slug in slugs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": {"epoch": "x"}}, r"task_conf.json with .*epoch: .*got 'x'"),
        ({"choose": {"seq_len": [4, 0]}}, "seq_len: .*got 0"),
        (
            {"experiments": {name: {"exp": "exp"} for name in ("weak", "wea/k", "wea k")}},
            "'wea/k' and 'wea k' would share the folder wea-k__seed1",
        ),
        (
            {"set": {"test_data_start": None, "test_data_end": None}},
            "experiment 'strong': no test split in .*exp; set test_data_start",
        ),
        ({"set": NO_VALID, "choose": {"epoch": [1, 2]}}, "experiment 'strong': no valid split"),
    ],
)
def test_mistakes_are_found_before_anything_runs(folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        cells.check(study(folder, **changes))
