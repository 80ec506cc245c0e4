"""Files for serving an export by an unmodified TensorFlow Serving, with Prometheus beside it.

usage: python tools/serving/make_bundle.py --export FOLDER --output DIR [--stable VERSION]
         [--canary VERSION] [--hold VERSION …] [--name NAME] [--image tensorflow/serving:TAG]
         [--publish ADDRESS]

FOLDER holds versions as `diffumin export` writes them. Served are the version labelled stable, by
default the newest, the one labelled canary, and those of --hold, which get no label and wait to be
rolled back to. Ports are open on ADDRESS, by default 127.0.0.1, this machine alone. DIR must not
exist; it gets compose.yaml, prometheus.yml, models.config, batching.config and monitoring.config,
and examples/ with a request for each signature. How to start it and how to roll out the next
version is in docs/serving.md.
"""

import ipaddress
import os
import re
import shlex
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from absl import flags

from diffumin_tf.errors import ConfigError
from diffumin_tf.terminal import exit_code, parse, quietly

with quietly():
    from diffumin_tf.files import staged_directory
    from tools.serving.bundle_files import texts
    from tools.serving.example_requests import write_examples
    from tools.serving.saved_model import read_version, versions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@-]*")


def main(argv: list[str]) -> int:
    """Writes a bundle; exit code 0 when it is there."""
    values = flags.FlagValues()
    flags.DEFINE_string("export", None, "Folder of versions.", values)
    flags.DEFINE_string("output", None, "Folder to write; must not exist.", values)
    flags.DEFINE_integer("stable", None, "Version labelled stable; the newest.", flag_values=values)
    flags.DEFINE_integer("canary", None, "Version labelled canary; none.", flag_values=values)
    flags.DEFINE_multi_integer("hold", [], "Another version to hold.", flag_values=values)
    flags.DEFINE_string("name", "diffumin", "Name of the model.", values)
    flags.DEFINE_string("image", "tensorflow/serving:2.21.0", "Image of the server.", values)
    flags.DEFINE_string("publish", "127.0.0.1", "Address on which ports are open.", values)
    return exit_code(lambda: _make(values, argv))


def _make(values: flags.FlagValues, argv: list[str]) -> None:
    parse(values, "make_bundle", argv, ["export", "output"], __doc__)
    for flag, pattern in (("name", _NAME), ("image", _IMAGE)):
        if not pattern.fullmatch(values[flag].value):
            raise ConfigError(
                f"--{flag}: {values[flag].value!r} must begin with a letter or a digit and consist "
                f"of these and {'_ . - : / @' if flag == 'image' else '_ . -'}"
            )
    publish, output = _address(values.publish), _output(values.output)
    labels = _labels(values, versions(values.export))
    numbers = sorted({*labels.values(), *values.hold})
    served = [read_version(values.export, number) for number in numbers]
    with staged_directory(output) as staging:
        for name, text in texts(values.name, values.image, publish, served, labels).items():
            with open(os.path.join(staging, name), "w", encoding="utf-8") as file:
                file.write(text)
        os.mkdir(os.path.join(staging, "examples"))
        stable = served[numbers.index(labels["stable"])]
        write_examples(os.path.join(staging, "examples"), stable)
    told = [f"{label} {number}" for label, number in labels.items()]
    told += [f"{number} without a label" for number in numbers if number not in labels.values()]
    models = shlex.quote(f"MODELS={_in_env(os.path.abspath(values.export))}")
    print(f"{output}: {values.name}: {', '.join(told)}")
    print(f"start it: cd {shlex.quote(output)} && echo {models} > .env && docker compose up -d")


def _address(publish: str) -> str:
    """As a port of compose.yaml has it."""
    try:
        address = ipaddress.ip_address(publish)
    except ValueError:
        raise ConfigError(
            f"--publish: must be an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all "
            f"of them, got {publish!r}"
        ) from None
    return f"[{address}]" if address.version == 6 else str(address)


def _output(path: str) -> str:
    """The folder to write, without a slash at its end, which would make it its own parent."""
    output = path.rstrip("/")
    if not path:
        raise ConfigError("--output: must not be empty")
    if not output:
        raise ConfigError(f"--output: {path} exists already; name a new folder")
    above = os.path.dirname(os.path.abspath(output))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise ConfigError(f"--output: {path}: {above} is no folder, so that none can be below it")
    return output


def _in_env(path: str) -> str:
    """A path as the value of a variable in a file .env, where some signs have a meaning."""
    if path == shlex.quote(path):
        return path
    return "'" + path.replace("'", "\\'") + "'"


def _labels(values: flags.FlagValues, known: list[int]) -> dict[str, int]:
    """Version by label, once all versions asked for are there."""
    stable = known[-1] if values.stable is None else values.stable
    asked = [("stable", stable), ("canary", values.canary), *(("hold", n) for n in values.hold)]
    for flag, number in asked:
        if number is not None and number not in known:
            raise ConfigError(
                f"--{flag}: {values.export} has no version {number}; there are "
                f"{', '.join(map(str, known))}"
            )
    if values.canary == stable:
        by_default = "" if values.stable is not None else ", the newest; name the other one"
        raise ConfigError(f"--canary: {stable} is the stable version as well{by_default}")
    return {"stable": stable} | ({} if values.canary is None else {"canary": values.canary})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
