"""Requests of the score client, from a file; only the standard library until records are read."""

import dataclasses
import difflib
import json
from collections.abc import Iterator
from typing import Any

from diffumin_tf.errors import DataError

EXAMPLES = "examples"

_NOT_LINES = (
    "JSON lines are read, each the inputs of one request, not a body for REST; use the .jsonl file"
)
# Keys of a body for the REST API.
_BODY = {"instances", "inputs", "signature_name", "examples"}
_INT64 = range(-(2**63), 2**63)
_WHOLE, _DECIMAL = ("DT_INT64",), ("DT_FLOAT", "DT_DOUBLE")


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as it lies in the file.

    Attributes:
        place: where in the file it lies, for messages.
        content: inputs by name, as nested lists; or, for `examples`, `tf.train.Example` protos.
    """

    place: str
    content: Any


def read_requests(path: str, signature: str, batch: int) -> Iterator[Request]:
    """Requests of a file, in order.

    Args:
        path: JSON lines, each an object of inputs by name; for `examples` a TFRecord of serialised
            `tf.train.Example`, zipped when its name ends in `.gz`.
        signature: that they are meant for.
        batch: Examples in a request.

    Raises:
        DataError: the file is missing, empty or torn, or a line is something else.
    """
    empty = True
    for request in _examples(path, batch) if signature == EXAMPLES else _lines(path):
        empty = False
        yield request
    if empty:
        raise DataError(f"{path}: holds no request")


def typed(path: str, request: Request, types: dict[str, str]) -> dict[str, list]:
    """The inputs of a request with whole numbers where ids belong, and floats where floats do.

    What is missing or has another shape is left for the server to refuse.

    Args:
        path: the file, for messages.
        request: from a line of it.
        types: TensorFlow's name for the type of each input, from the signature.

    Raises:
        DataError: the signature has no such input, or a value is of another type.
    """
    inputs = {}
    for name, values in request.content.items():
        if name not in types and name in _BODY:
            raise DataError(f"{path}: {request.place}: {_NOT_LINES}")
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1, cutoff=0.5)
            told = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(types))}"
            raise DataError(f"{path}: {request.place}: the signature has no input {name!r}; {told}")
        where = f"{path}: {request.place}: input {name!r}"
        inputs[name] = _converted(values, types[name], where)
        _shape(inputs[name], where)
    return inputs


def _lines(path: str) -> Iterator[Request]:
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield Request(f"line {number}", _object(path, number, line))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: not UTF-8 text; --signature {EXAMPLES} reads TFRecords, the others JSON lines"
        ) from None


def _object(path: str, number: int, line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        told = f"; {_NOT_LINES}" if line.strip() == "{" else ""  # Goes on in the next line.
        raise DataError(f"{path}: line {number}: not valid JSON: {error.msg}{told}") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: line {number}: must be an object of inputs by name, not "
            f"{type(content).__name__}"
        )
    return content


def _examples(path: str, batch: int) -> Iterator[Request]:
    from diffumin_tf.terminal import quietly

    with quietly():
        import tensorflow as tf
        from google.protobuf.message import DecodeError

        from diffumin_tf.input.parsing import read_records
    if not tf.io.gfile.exists(path):
        raise DataError(f"{path}: there is no such file")
    held, read = [], 0
    try:
        for record in read_records([path]).as_numpy_iterator():
            held.append(tf.train.Example.FromString(record))
            read += 1
            if len(held) == batch:
                yield _of_records(held, read)
                held = []
    except tf.errors.OpError:
        told = f"torn behind record {read}" if read else "no TFRecord, or torn at its beginning"
        raise DataError(f"{path}: {told}") from None
    except DecodeError:
        raise DataError(f"{path}: record {read + 1}: no tf.train.Example") from None
    if held:
        yield _of_records(held, read)


def _of_records(examples: list, last: int) -> Request:
    first = last - len(examples) + 1
    return Request(f"record {last}" if first == last else f"records {first} to {last}", examples)


def _converted(values: Any, dtype: str, where: str) -> Any:
    if isinstance(values, list):
        return [_converted(value, dtype, where) for value in values]
    number = isinstance(values, int | float) and not isinstance(values, bool)
    if dtype in _DECIMAL and number:
        return float(values)
    if dtype in _WHOLE and isinstance(values, int) and number and values in _INT64:
        return values
    wanted = {"DT_INT64": "whole numbers of 64 bits", "DT_FLOAT": "numbers"}.get(dtype, dtype)
    raise DataError(f"{where}: must hold {wanted}, got {json.dumps(values)}")


def _shape(values: Any, where: str) -> list[int]:
    if not isinstance(values, list):
        return []
    shapes = [_shape(value, where) for value in values]
    if any(shape != shapes[0] for shape in shapes):
        raise DataError(f"{where}: its rows differ in length; pad the shorter ones with 0")
    return [len(values), *(shapes[0] if shapes else ())]
