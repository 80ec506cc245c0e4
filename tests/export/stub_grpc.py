"""The gRPC API of TensorFlow Serving 2.21."""

import contextlib

import grpc
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.export.stub_model import Refused


class GrpcServicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, stub):
        self.stub = stub

    def GetModelMetadata(self, request, context):
        with refusing(context):
            return self.stub.metadata(*asked(request))[0]

    def Predict(self, request, context):
        self.stub.before(next(self.stub.requests))
        with refusing(context):
            number, loaded = self.stub.find(*asked(request))
            infos = loaded.signature(request.model_spec.signature_name).inputs
            tensors = {name: tf.make_ndarray(t) for name, t in request.inputs.items()}
            for place, (name, tensor) in enumerate(tensors.items()):
                wanted = tf.as_dtype(infos[name].dtype) if name in infos else tensor.dtype
                if tf.as_dtype(tensor.dtype) != wanted:
                    raise Refused(
                        "INVALID_ARGUMENT", f"Expects arg[{place}] to be {wanted} but is another"
                    )
            outputs = loaded.run(request.model_spec.signature_name, tensors)
            answer = predict_pb2.PredictResponse()
            answer.model_spec.version.value = number
            for name, values in outputs.items():  # in fields, as TensorFlow Serving does
                tensor = answer.outputs[name]
                tensor.dtype = types_pb2.DT_FLOAT
                tensor.tensor_shape.dim.add(size=len(values))
                tensor.float_val.extend(values)
            return answer

    def Regress(self, request, context):
        self.stub.before(next(self.stub.requests))
        with refusing(context):
            _, loaded = self.stub.find(*asked(request))
            examples = request.input.example_list.examples
            answer = regression_pb2.RegressionResponse()
            for value in self.stub.regress(loaded, request.model_spec.signature_name, examples):
                answer.result.regressions.add(value=value)
            return answer


def asked(request):
    spec = request.model_spec
    return spec.name, spec.version.value or None, spec.version_label


@contextlib.contextmanager
def refusing(context):
    try:
        yield
    except Refused as error:
        context.abort(grpc.StatusCode[error.code], str(error))
