"""What of TensorFlow Serving clients see, REST and gRPC, in front of a real SavedModel."""

import contextlib
import http.server
import itertools
import threading
import time
from concurrent import futures

import grpc
import numpy as np
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

from tests.export.stub_grpc import GrpcServicer
from tests.export.stub_model import Refused, load
from tests.export.stub_rest import RestHandler


class Stub:
    """A model with versions and labels, on a port for REST and one for gRPC.

    Args:
        versions: folder of each version.
        labels: version of each label.
        before: called with the number of each request for scores, from 1, before it is answered.
    """

    def __init__(self, versions, labels=(), name="diffumin", before=lambda number: None):
        self.name, self.labels, self.before = name, dict(labels), before
        self.loaded = {number: load(str(export)) for number, export in versions.items()}
        self.requests = itertools.count(1)
        self.served = []  # versions, in the order in which they were asked for
        self.connections = set()
        self.state = "AVAILABLE"  # of all versions, as a server tells it

    def __enter__(self):
        handler = type("Handler", (RestHandler,), {"stub": self})
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()
        self.grpc = grpc.server(futures.ThreadPoolExecutor(8))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            GrpcServicer(self), self.grpc
        )
        self.grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()
        return self

    def __exit__(self, *exception):
        self.stop()

    def server(self, protocol):
        port = self.http.server_address[1] if protocol == "rest" else self.grpc_port
        return f"127.0.0.1:{port}"

    def stop(self):
        """Goes away, with all connections."""
        threading.Thread(target=self.http.shutdown).start()
        self.http.server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(2)
        self.grpc.stop(0)

    def find(self, name, version=None, label=None):
        """Number and session of a version."""
        if label:
            if name != self.name or label not in self.labels:
                raise Refused("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = self.labels[label]
        asked = f"Specific({name}, {version})" if version else f"Latest({name})"
        number = version or max(self.loaded)
        if name != self.name or number not in self.loaded:
            raise Refused("NOT_FOUND", f"Servable not found for request: {asked}")
        self.served.append(number)
        return number, self.loaded[number]

    def metadata(self, name, version, label):
        number, loaded = self.find(name, version, label)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = name, number
        found = get_model_metadata_pb2.SignatureDefMap(signature_def=loaded.signatures)
        answer.metadata["signature_def"].Pack(found)
        return answer, found

    def regress(self, loaded, signature, examples):
        if not examples:
            raise Refused("INVALID_ARGUMENT", "Input is empty.")
        outputs = loaded.signature(signature).outputs
        if list(outputs) != ["outputs"]:
            raise Refused("INVALID_ARGUMENT", "Expected one output Tensor.")
        serialised = np.array([e.SerializeToString() for e in examples], dtype=object)
        return loaded.run(signature, {"inputs": serialised})["outputs"]


def slow(seconds, every):
    """A `before` that lets every n-th request wait."""
    return lambda number: time.sleep(seconds if number % every == 0 else 0)
