"""What the one fixed noise of inference costs, against noise that is drawn.

usage: python tools/sampled_inference.py --model_dir RUN [--split valid] [--draws 8]

Scores a split of a trained run with the noise it serves with, then with other draws of it, and with
the mean of the predictions over the draws, which no single draw can spoil. Writes nothing.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import flags

from diffumin_tf.errors import ConfigError
from diffumin_tf.evaluation import metrics
from diffumin_tf.layers import DiffusionMultiInterestGenerator
from diffumin_tf.run.open import open_run
from diffumin_tf.terminal import exit_code, parse


@exit_code
def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("model_dir", None, "Folder of a trained run.", values)
    flags.DEFINE_enum("split", "valid", ["train", "valid", "test"], "Which data.", values)
    flags.DEFINE_integer("draws", 8, "Other noises.", lower_bound=1, flag_values=values)
    parse(values, "sampled_inference", argv, ["model_dir"], __doc__)
    print("\n".join(compare(values.model_dir, values.split, values.draws)))


def compare(model_dir: str, split: str, draws: int) -> list[str]:
    """Lines with the AUC by the noise of inference."""
    run = open_run(model_dir)
    layers = [m for m in run.model.submodules if isinstance(m, DiffusionMultiInterestGenerator)]
    if not layers:
        raise ConfigError(f"{model_dir}: its model generates nothing, so inference has no noise")
    served, random = run.score(split), np.random.default_rng(run.config.seed)
    predictions = []
    for _ in range(draws):
        for layer in layers:
            layer.sampling_noise.assign(random.standard_normal(layer.sampling_noise.shape))
        predictions.append(run.score(split).pctr)
    each = [metrics.auc(served.labels, pctr) for pctr in predictions]
    furthest = max(np.abs(pctr - served.pctr).max() for pctr in predictions)
    mean = metrics.auc(served.labels, np.mean(predictions, axis=0))
    return [
        f"served noise: AUC {metrics.auc(served.labels, served.pctr):.5f}",
        f"{draws} other draws: AUC {np.mean(each):.5f}, from {min(each):.5f} to {max(each):.5f}; "
        f"predictions move by up to {furthest:.4f}",
        f"mean prediction of the draws: AUC {mean:.5f}",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
