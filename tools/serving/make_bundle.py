"""Files for serving an export by an unmodified TensorFlow Serving, with Prometheus beside it.

usage: python tools/serving/make_bundle.py --export FOLDER --output DIR [--stable VERSION]
         [--canary VERSION] [--hold VERSION …] [--name NAME] [--image tensorflow/serving:TAG]
         [--publish ADDRESS]

FOLDER holds versions as `diffumin export` writes them. Served are the version labelled stable, by
default the newest, the one labelled canary, and those of --hold, which get no label and wait to be
rolled back to. Ports are open on ADDRESS, by default 127.0.0.1, this machine alone. DIR must not
exist; it gets models.config, and the files of tools/serving/bundle with these choices in them.
Needs `pip install '.[serving]'` in a checkout. How to start it is in docs/serving.md.
"""

import ipaddress
import os
import pathlib
import re
import shlex
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import yaml
from absl import flags

from diffumin_tf.errors import ConfigError, DataError
from diffumin_tf.terminal import exit_code, parse, quietly

with quietly():
    import numpy as np
    import tensorflow as tf
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from diffumin_tf.export.saved_model import versions
    from diffumin_tf.export.signatures import EXAMPLES, REQUEST, SERVING_DEFAULT
    from diffumin_tf.files import staged_directory, write_text

FILES = pathlib.Path(__file__).parent / "bundle"


@exit_code
def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("export", None, "Folder of versions.", values)
    flags.DEFINE_string("output", None, "Folder to write; must not exist.", values)
    flags.DEFINE_integer("stable", None, "Version labelled stable; the newest.", flag_values=values)
    flags.DEFINE_integer("canary", None, "Version labelled canary; none.", flag_values=values)
    flags.DEFINE_multi_integer("hold", [], "Another version to hold.", flag_values=values)
    flags.DEFINE_string("name", "diffumin", "Name of the model.", values)
    flags.DEFINE_string("image", "tensorflow/serving:2.21.0", "Image of the server.", values)
    flags.DEFINE_string("publish", "127.0.0.1", "Address on which ports are open.", values)
    parse(values, "make_bundle", argv, ["export", "output"], __doc__)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", values.name):
        raise ConfigError(f"--name: must be letters, digits and _ . - inside, got {values.name!r}")
    address, labels = _address(values.publish), _labels(values)
    served = sorted({*labels.values(), *values.hold})
    for number in served:
        _check_version(os.path.join(values.export, str(number)))
    texts = {file.name: file.read_text(encoding="utf-8") for file in FILES.iterdir()}
    texts["compose.yaml"] = _compose(texts["compose.yaml"], values.name, values.image, address)
    texts["models.config"] = _models(values.name, served, labels)
    try:
        with staged_directory(values.output) as staging:
            for name, text in texts.items():
                write_text(os.path.join(staging, name), text)
    except tf.errors.OpError as error:
        raise ConfigError(f"--output: {values.output}: {error.message}") from None
    label_of = {number: f"{label} {number}" for label, number in labels.items()}
    print(f"{values.output}: {values.name}: {', '.join(label_of.get(n, str(n)) for n in served)}")
    models = shlex.quote(os.path.abspath(values.export))
    print(f"start it: cd {shlex.quote(values.output)} && MODELS={models} docker compose up -d")


def _address(publish: str) -> str:
    try:
        address = ipaddress.ip_address(publish)
        if not getattr(address, "scope_id", None):
            return str(address)
    except ValueError:
        pass
    raise ConfigError(
        "--publish: must be an address of this machine, without a scope, such as 127.0.0.1, or "
        f"0.0.0.0 for all of them; got {publish!r}"
    )


def _labels(values: flags.FlagValues) -> dict[str, int]:
    """Version by label, if all versions that are asked for exist."""
    known = versions(values.export)
    if not known:
        raise DataError(
            f"{values.export}: no versions, that is, folders named by a number, as in "
            "<model_dir>/export"
        )
    labels = {"stable": known[-1] if values.stable is None else values.stable}
    if values.canary is not None:
        labels["canary"] = values.canary
    for flag, number in (*labels.items(), *(("hold", number) for number in values.hold)):
        if number not in known:
            raise ConfigError(f"--{flag}: {values.export} has no version {number}, only {known}")
    if values.canary == labels["stable"]:
        raise ConfigError(f"--canary: {values.canary} is the stable version; name another --stable")
    return labels


def _check_version(path: str) -> None:
    """Refuses what is not a complete SavedModel with our signatures; loads no weights."""
    prefix = os.path.join(path, "variables", "variables")
    try:
        with tf.io.gfile.GFile(os.path.join(path, "saved_model.pb"), "rb") as file:
            (graph,) = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
        weights = tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, DecodeError, ValueError, RuntimeError) as error:
        raise DataError(f"{path}: not a complete SavedModel: {error}") from None
    types = weights.get_variable_to_dtype_map()
    shapes = weights.get_variable_to_shape_map().items()
    wanted = sum(types[n].size * np.prod(s) for n, s in shapes if types[n] != tf.string)
    found = sum(tf.io.gfile.stat(f).length for f in tf.io.gfile.glob(f"{prefix}.data-*"))
    assets = [os.path.join(path, "assets", asset.filename) for asset in graph.asset_file_def]
    wrong = [f"{asset} is missing" for asset in assets if not tf.io.gfile.exists(asset)]
    wrong += [
        f"it has no signature {name!r}"
        for name in (SERVING_DEFAULT, EXAMPLES, REQUEST)
        if name not in graph.signature_def
    ]
    if found < wanted:
        wrong.append(f"{prefix}.data-* has {found:,} bytes, but the weights {wanted:,.0f}")
    if wrong:
        raise DataError(f"{path}: {wrong[0]}; export it anew")


def _compose(text: str, name: str, image: str, address: str) -> str:
    compose = yaml.safe_load(text)
    for service in compose["services"].values():
        for port in service["ports"]:
            port["host_ip"] = address
    for server in ("serving", "batching"):
        compose["services"][server] |= {"image": image, "environment": {"MODEL_NAME": name}}
    return yaml.safe_dump(compose, sort_keys=False, width=200)


def _models(name: str, served: list[int], labels: dict[str, int]) -> str:
    config = ModelServerConfig()
    model = config.model_config_list.config.add()
    model.name, model.base_path, model.model_platform = name, "/models", "tensorflow"
    model.model_version_policy.specific.versions.extend(served)
    model.version_labels.update(labels)
    return text_format.MessageToString(config)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
