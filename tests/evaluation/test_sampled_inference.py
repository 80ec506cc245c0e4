"""The tool that compares the noise of inference with other draws of it."""

import re

import pytest

from diffumin_tf.errors import ConfigError
from diffumin_tf.run.open import open_run
from tests import tools

tool = tools.tool("sampled_inference")


def test_it_tells_the_served_auc_and_how_far_other_draws_move(trained):
    served, others, mean = tool.compare(str(trained.model_dir), "valid", 2)
    auc = trained.metrics["valid"]["auc"]
    assert served == f"served noise: AUC {auc:.5f}"
    assert float(re.search(r"move by up to ([\d.]+)", others)[1]) > 0
    assert abs(float(mean.rpartition(" ")[2]) - auc) < 0.1
    # Nothing of it stays: the run scores as before.
    assert open_run(str(trained.model_dir)).score("valid").metrics()["auc"] == auc


def test_a_run_without_a_generator_has_no_noise(trained, monkeypatch):
    monkeypatch.setattr(tool, "DiffusionMultiInterestGenerator", type("Other", (), {}))
    with pytest.raises(ConfigError, match="its model generates nothing"):
        tool.compare(str(trained.model_dir), "valid", 1)


def test_wrong_usage_explains_itself(capsys):
    assert tool.main([]) == 2 and "usage:" in capsys.readouterr().err
    assert tool.main(["--model_dir", "/nowhere"]) == 1 and "error:" in capsys.readouterr().err
