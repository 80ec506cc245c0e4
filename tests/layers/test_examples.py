"""The example in a docstring runs as it stands."""

import inspect
import re

import pytest
import tensorflow as tf

from diffumin_tf import layers

PUBLIC = [
    "ActivationUnit",
    "ContrastiveMultiInterestCalibrator",
    "Denoiser",
    "Dice",
    "DiffusionMultiInterestGenerator",
    "FieldAlignedChannels",
    "IdEmbedding",
    "MultiHeadAttention",
    "NoiseSchedule",
    "OrthogonalMultiInterestExtractor",
    "SampledHashAttention",
    "SeededDropout",
    "SimHash",
    "SoftSearch",
    "Tower",
    "TransformerBlock",
    "TransformerEncoder",
    "TwinAttention",
]


@pytest.mark.parametrize("name", PUBLIC)
def test_example_runs(name):
    docstring = inspect.getdoc(getattr(layers, name))
    (example,) = re.findall(r"```python\n(.*?)```", docstring, flags=re.DOTALL)
    exec(example, {"tf": tf, **vars(layers)})


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring_says_what_goes_in_and_out(name):
    cls = getattr(layers, name)
    docstring = inspect.getdoc(cls)
    for argument in inspect.signature(cls).parameters:
        assert argument == "kwargs" or re.search(rf"^ +{argument}: ", docstring, re.M), argument
    if name != "NoiseSchedule":
        call = cls.__call__ if name == "FieldAlignedChannels" else cls.call
        for argument in list(inspect.signature(call).parameters)[1:]:
            assert argument == "kwargs" or re.search(rf"^ +{argument}: ", docstring, re.M), argument
