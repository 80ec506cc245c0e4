"""The tool that shows what the channels of a run hold."""

import numpy as np
import pytest

from diffumin_tf.errors import ConfigError
from tests import tools

tool = tools.tool("channel_usage")


def test_a_line_for_every_channel_of_a_run(trained):
    head, names, *channels = tool.report(str(trained.model_dir), "valid", 20)
    assert head.startswith("Long_term_DiffuMIN: 20 samples; entropy of the shares")
    assert len(channels) == trained.run.config.channel_num
    shares = [float(line.split()[2].rstrip("%")) for line in channels]
    assert sum(shares) == pytest.approx(100, abs=2)
    assert all(-1 <= float(line.split()[5]) <= 1 for line in channels)


def test_what_the_columns_say():
    """Two channels: one holds the same for three samples, one differs and is empty once."""
    r = np.array([[[2, 0], [1, 0]], [[4, 0], [0, 3]], [[2, 0], [0, 0]]], float)
    generated = np.stack([r[:, 0], np.ones([3, 2])], axis=1)
    head, _, same, other = tool._table("unit", r, generated, np.array([[3, 1], [3, 1], [2, 0]]))
    assert head == "unit: 3 samples; entropy of the shares 0.50 of at most 0.69"
    assert same.split() == ["0", "100%", "80%", "2.0000", "1.00", "1.00"]
    assert other.split() == ["1", "67%", "20%", "2.0000", "0.00", "0.71"]


def test_a_run_without_channels_says_so(trained, monkeypatch):
    monkeypatch.setattr(tool, "Long_term_DiffuMIN", type("Other", (), {}))
    with pytest.raises(ConfigError, match="no unit of it extracts interests"):
        tool.report(str(trained.model_dir), "valid", 20)
