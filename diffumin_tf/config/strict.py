"""JSON objects as pydantic models whose errors name file, key, value and the nearest valid key."""

import contextlib
import datetime
from typing import Annotated, Any, TypeVar

import pydantic

from diffumin_tf.errors import ConfigError, did_you_mean

_Model = TypeVar("_Model", bound="StrictModel")


def _check_day(day: str) -> str:
    with contextlib.suppress(ValueError):
        if datetime.datetime.strptime(day, "%Y%m%d").strftime("%Y%m%d") == day:
            return day
    raise ValueError(f"{day!r} is no day of the form yyyymmdd")


Day = Annotated[str, pydantic.AfterValidator(_check_day)]


class StrictModel(pydantic.BaseModel):
    """A JSON object in which an unknown key is an error; keys that start with `---` separate."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        content = {k: v for k, v in content.items() if not k.startswith("---")}
        for key, value in content.items():
            if key not in cls.model_fields:
                known = f"; known keys: {', '.join(cls.model_fields)}"
                near = did_you_mean(key, cls.model_fields) or known
                raise ValueError(f"unknown key {key!r} (value {value!r}){near}")
        return content


def validate(model: type[_Model], content: dict[str, Any], path: str) -> _Model:
    """The content of the file `path` as a model, or a ConfigError with one line a mistake."""
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as error:
        raise ConfigError("\n".join(_message(path, e) for e in error.errors())) from None


def _message(path: str, error: dict[str, Any]) -> str:
    where = ".".join(str(step) for step in error["loc"])
    what = error["msg"].removeprefix("Value error, ")
    got = "" if error["type"] in ("value_error", "missing") else f", got {error['input']!r}"
    return f"{path}: {f'{where}: ' if where else ''}{what}{got}"
