"""Makes bundles, and reads them."""

import json
import re

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)

from tests.tools import tool

make_bundle = tool("serving/make_bundle")

# Two messages that the package tensorflow-serving-api leaves out. Names and types of their fields
# are those of TensorFlow Serving's sources at 2.21, numbers are not, which text does not show:
# tensorflow_serving/servables/tensorflow/session_bundle_config.proto and
# tensorflow_serving/config/monitoring_config.proto.


MESSAGES = {
    "BatchingParameters": {
        "max_batch_size": ".google.protobuf.Int64Value",
        "batch_timeout_micros": ".google.protobuf.Int64Value",
        "max_enqueued_batches": ".google.protobuf.Int64Value",
        "num_batch_threads": ".google.protobuf.Int64Value",
        "max_execution_batch_size": ".google.protobuf.Int64Value",
        "enable_large_batch_splitting": ".google.protobuf.BoolValue",
        "pad_variable_length_inputs": bool,
    },
    "PrometheusConfig": {"enable": bool, "path": str},
    "MonitoringConfig": {"prometheus_config": ".served.PrometheusConfig"},
}


PLAIN = {
    bool: descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    str: descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}


def make(export, output, *more):
    return make_bundle.main([f"--export={export}", f"--output={output}", *more])


def read(bundle):
    return {p.name: p.read_text() for p in bundle.iterdir() if p.is_file()}


def message(name):
    """The class of a message of TensorFlow Serving."""
    file = descriptor_pb2.FileDescriptorProto(name="served.proto", package="served")
    file.syntax = "proto3"
    file.dependency.append("google/protobuf/wrappers.proto")
    for message_name, fields in MESSAGES.items():
        described = file.message_type.add(name=message_name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = described.field.add(name=field, number=number, label=1)
            if kind in PLAIN:
                added.type = PLAIN[kind]
            else:
                added.type, added.type_name = added.TYPE_MESSAGE, kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"served.{name}"))


def yaml(text):
    """Reads the YAML of a bundle: blocks by indentation, and in them values as in JSON."""
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]

    def block(depth):
        inner = None
        while lines and len(lines[0]) - len(lines[0].lstrip()) == depth:
            line = lines.pop(0).strip()
            if line.startswith("- "):
                inner = [] if inner is None else inner
                entry = line[2:]
                if re.match(r"\w+: ", entry):
                    lines.insert(0, " " * (depth + 2) + entry)
                    inner.append(block(depth + 2))
                else:
                    inner.append(json.loads(entry))
                continue
            inner = {} if inner is None else inner
            key, value = re.fullmatch(r"(\w+):(.*)", line).groups()
            assert key not in inner
            below = len(lines[0]) - len(lines[0].lstrip()) if lines else 0
            inner[key] = json.loads(value) if value.strip() else block(max(below, depth + 2))
        return inner

    found = block(0)
    assert not lines
    return found
