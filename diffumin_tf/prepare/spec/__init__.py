"""The models of `prepare.json`, a class an adapter; `docs/data.md` explains every key."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field as Key

from diffumin_tf.config.strict import Day, validate
from diffumin_tf.errors import ConfigError, did_you_mean_of
from diffumin_tf.files import read_json
from diffumin_tf.prepare.spec.common import GroupSpec, Names, RecordSpec, TableSpec
from diffumin_tf.prepare.spec.joined import JoinedSpec
from diffumin_tf.prepare.spec.tables import TablesSpec
from diffumin_tf.synthetic.log import LogSpec


def _check_pattern(files: str) -> str:
    if files.count("{yyyymmdd}") != 1:
        raise ValueError(
            f"{files!r} is neither an object of days and their files nor a pattern that holds "
            "{yyyymmdd} once"
        )
    return files


class ElemeSpec(TableSpec):
    """A spec of the adapter `eleme`, which reads the public Ele.me release."""

    adapter: Literal["eleme"]
    files: Annotated[
        Annotated[dict[Day, Names], Key(min_length=1), pydantic.Tag("days")]
        | Annotated[str, pydantic.AfterValidator(_check_pattern), pydantic.Tag("pattern")],
        pydantic.Discriminator(lambda files: "days" if isinstance(files, dict) else "pattern"),
    ]
    list_order: Literal["newest_first", "oldest_first", "auto"] = "auto"
    missing: list[str] = ["-99", "-1", "null", "NULL"]


class SyntheticSpec(LogSpec, RecordSpec, GroupSpec):
    """A spec of the adapter `synthetic`, which needs no input: a log whose truth is known."""

    adapter: Literal["synthetic"]


_ADAPTERS = {
    "joined": JoinedSpec,
    "tables": TablesSpec,
    "eleme": ElemeSpec,
    "synthetic": SyntheticSpec,
}


def load_spec(path: str) -> TablesSpec | JoinedSpec | ElemeSpec | SyntheticSpec:
    """Reads a `prepare.json`.

    Raises:
        ConfigError: the file cannot be read, or is no spec; names file, key, value and remedy.
    """
    content = read_json(path)
    adapter = str(content.get("adapter", "tables"))
    if adapter not in _ADAPTERS:
        near = did_you_mean_of(adapter, _ADAPTERS)
        raise ConfigError(f"{path}: adapter: unknown adapter {adapter!r}{near}")
    return validate(_ADAPTERS[adapter], content, path)
