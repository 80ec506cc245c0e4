"""Requests to the export of a run, from its own records, for the program in tools/serving/native.

usage: python tools/serving/record_requests.py --model_dir M --output FILE
         [--signature serving_default|examples|request] [--sizes 1,32]

M is the folder of a trained run whose data is still there. FILE gets a request for each number of
--sizes, which is how many samples it asks for (candidates, for --signature request): the first ones
of the test split, or else of validation or training, and from the first one again after 200. The
format is that of diffumin_tf/export/recorded.py; a file of that name is replaced.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from absl import flags

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.terminal import exit_code, parse, quietly

with quietly():
    import tensorflow as tf

    from diffumin_tf.export import recorded, requests
    from diffumin_tf.export.signatures import EXAMPLES, REQUEST, SERVING_DEFAULT
    from diffumin_tf.run.experiment import Experiment

_MOST = 100_000


def main(argv: list[str]) -> int:
    """Writes the file; exit code 0 when it is there."""
    values = flags.FlagValues()
    flags.DEFINE_string("model_dir", None, "Folder of a trained run.", values)
    flags.DEFINE_string("output", None, "File to write.", values)
    signatures = [SERVING_DEFAULT, EXAMPLES, REQUEST]
    flags.DEFINE_enum("signature", SERVING_DEFAULT, signatures, "What to ask.", values)
    flags.DEFINE_list("sizes", ["1", "32"], "Samples of each request.", values)
    if not parse(values, "record_requests", __doc__, argv, "model_dir"):
        return 2
    if not values.output:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    return exit_code(lambda: _record(values))


def _record(values: flags.FlagValues) -> None:
    sizes = [_size(text) for text in values.sizes]
    if not sizes:
        raise ConfigError("--sizes: must hold a number of samples for each request")
    run = Experiment.open(values.model_dir)
    samples = requests.recorded(run.config, run.schema, run.model.layout)
    if samples is None:
        raise DataError(f"{values.model_dir}: of none of its splits a record can be read")
    make = {
        SERVING_DEFAULT: samples.tensors,
        EXAMPLES: samples.examples,
        REQUEST: samples.request,
    }[values.signature]
    try:
        recorded.write(values.output, [make(size) for size in sizes])
    except tf.errors.OpError as error:
        raise DataError(f"{values.output}: cannot be written: {error.message}") from None
    told = f"{len(sizes)} requests to {values.signature}, {sum(sizes):,} samples"
    print(f"{values.output}: {told}")


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST):
        raise ConfigError(f"--sizes: must be numbers from 1 to {_MOST:,} as in 1,32, got {text!r}")
    return int(text)


if __name__ == "__main__":
    # The memory of a GPU is for training.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    sys.exit(main(sys.argv[1:]))
