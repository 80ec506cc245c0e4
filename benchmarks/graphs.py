"""The nodes that a graph executes, and where they would run if there were a GPU."""

import functools
import graphlib
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework import function_def_to_graph, kernels, op_def_registry
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.training.saver import export_meta_graph

DEVICE, HOST, FREE = "device", "host", "free"
# They launch nothing: constants, other names for what is there, and shapes, which the host knows.
_FREE = frozenset(
    "Const Placeholder _Arg Identity IdentityN Reshape ExpandDims Squeeze EnsureShape NoOp "
    "StopGradient PreventGradient ReadVariableOp VarHandleOp Shape ShapeN Size Rank Assert "
    "BroadcastGradientArgs".split()
)
# What they put out follows from the shapes of what they read.
_OF_SHAPES = frozenset("Const Shape ShapeN Size Rank VarHandleOp".split())
# The size of what they put out follows from data: their kernels wait for it on the host.
_OF_ANY_SIZE = frozenset("Unique UniqueV2 UniqueWithCounts Where DynamicPartition".split())
_CALLS = frozenset(("PartitionedCall", "StatefulPartitionedCall"))
_LOOPS = frozenset(("While", "StatelessWhile"))
_BRANCHES = frozenset(("If", "StatelessIf"))
# Attributes by which a kernel is chosen, the one that says most first.
_TYPES = ("T", "Tparams", "SrcT", "dtype")


class Executed(NamedTuple):
    """A node that is executed.

    Attributes:
        scopes: names of the calls and loops that it is in, then its own; by `/`.
        op, type: what it computes, of what; type is None where none decides for a kernel.
        where: DEVICE, HOST if the kernel runs there although there is a GPU, or FREE.
        times: trips of the loops that it is in.
        cluster: the name of the call that XLA compiles, or empty.
        awaits: inputs that hold data or come from the GPU, but must be in the memory of the host,
            or decide there how large the result is.
    """

    scopes: str
    op: str
    type: tf.DType | None
    where: str
    times: int
    cluster: str
    awaits: tuple[str, ...]


class _Place(NamedTuple):
    scopes: str = ""
    times: int = 1
    cluster: str = ""


def executed(function: Callable, *signature: Any) -> list[Executed]:
    """The nodes that a function of tensors executes.

    Of branches it takes the first. Devices are not asked; the result is that of a machine with one
    GPU if the function makes the graph of such a machine.

    Args:
        signature: `tf.TensorSpec`, or nests of them, as for `tf.function`.

    Raises:
        ValueError: how often a loop runs is no constant of the graph.
    """
    traced = tf.function(function, input_signature=signature, autograph=False)
    graph = _optimised(traced.get_concrete_function().graph)
    functions = {f.signature.name: f for f in graph.library.function}
    found: list[Executed] = []
    _walk(graph, functions, {}, _Place(), found)
    return found


def _optimised(graph: tf.Graph) -> tf.compat.v1.GraphDef:
    """The graph as TensorFlow optimises it, but with loops and branches as functions still."""
    definition = graph.as_graph_def()
    for nodes in (definition.node, *(f.node_def for f in definition.library.function)):
        for node in nodes:
            node.attr.pop("_lower_using_switch_merge", None)
    with tf.Graph().as_default() as plain:
        tf.import_graph_def(definition, name="")
    meta = export_meta_graph(graph_def=plain.as_graph_def(), graph=plain)
    needed = [x.name for x in graph.outputs] + [x.name for x in graph.control_outputs]
    meta.collection_def["train_op"].node_list.value.extend(needed)
    return tf_optimizer.OptimizeGraph(config_pb2.ConfigProto(), meta)


def _walk(
    graph: Any, functions: dict[str, Any], data: dict[str, bool], place: _Place, found: list
) -> dict[str, bool]:
    """Notes what a graph executes, inputs first.

    Args:
        data: whether arguments are data, or lie on the GPU, and are not what the host knows of
            shapes; those without an entry are.

    Returns:
        The same of outputs, by `name:index`, or `name` where it is the first or all agree.
    """
    nodes, data = {node.name: node for node in graph.node}, dict(data)
    order = {name: [_node(x) for x in node.input] for name, node in nodes.items()}
    for name in graphlib.TopologicalSorter(order).static_order():
        node = nodes[name]
        inputs = [x for x in node.input if not x.startswith("^")]
        flags = [_flag(data, x) for x in inputs]
        scopes = f"{place.scopes}/{name}"
        if node.op in _CALLS | _LOOPS | _BRANCHES:
            if node.op in _BRANCHES and flags[0]:
                awaits = (inputs[0],)
                found.append(Executed(scopes, node.op, None, HOST, *place[1:], awaits))
            function, inner = _called(nodes, functions, node, place._replace(scopes=scopes))
            flags = flags[1:] if node.op in _BRANCHES else flags
            body, flat = function_def_to_graph.function_def_to_graph_def(function)
            arguments = [a.name for a in function.signature.input_arg]
            known = dict(zip(arguments, flags, strict=True))
            inside = _walk(body, functions, known, inner, found)
            for index, output in enumerate(function.signature.output_arg):
                flag = _flag(inside, flat[function.ret[output.name]])
                data[f"{name}:{index}" if index else name] = flag
        elif node.op != "Placeholder":
            where, hosted = _kernel(node)
            where = FREE if _only_adds_axes(nodes, node) else where
            hosted[:1] = [True] if node.op in _OF_ANY_SIZE else hosted[:1]
            awaits = tuple(x for x, f, h in zip(inputs, flags, hosted, strict=True) if f and h)
            found.append(Executed(scopes, node.op, _type(node), where, *place[1:], awaits))
            data[name] = node.op not in _OF_SHAPES and (any(flags) or where == DEVICE)
    return data


def _called(nodes: dict, functions: dict, node: Any, place: _Place) -> tuple[Any, _Place]:
    """The function that a node calls, and where its nodes are."""
    if node.op in _LOOPS:
        trips = _trips(nodes, functions[node.attr["cond"].func.name], node)
        return functions[node.attr["body"].func.name], place._replace(times=place.times * trips)
    if node.op in _BRANCHES:
        return functions[node.attr["then_branch"].func.name], place
    compiled = node.name if node.attr["_XlaMustCompile"].b else ""
    return functions[node.attr["f"].func.name], place._replace(cluster=place.cluster or compiled)


def _trips(nodes: dict, condition: Any, node: Any) -> int:
    """How often a loop runs: the least constant that its condition compares with."""
    graph, _ = function_def_to_graph.function_def_to_graph_def(condition)
    inside = {n.name: n for n in graph.node}
    arguments = [a.name for a in condition.signature.input_arg]
    data_inputs = [x for x in node.input if not x.startswith("^")]
    inside |= {a: nodes[_node(x)] for a, x in zip(arguments, data_inputs, strict=True)}
    bounds = [inside[_node(n.input[1])] for n in graph.node if n.op == "Less"]
    known = [int(tf.make_ndarray(b.attr["value"].tensor)) for b in bounds if b.op == "Const"]
    if not known:
        raise ValueError(f"{node.name}: how often this loop runs is no constant of the graph")
    return min(known)


def _kernel(node: Any) -> tuple[str, list[bool]]:
    """Where a node runs if there is a GPU, and of each input if it must be on the host."""
    definition = op_def_registry.get(node.op)
    chosen = _best_kernel(node, definition)
    hosted = set(chosen.host_memory_arg) if chosen else {a.name for a in definition.input_arg}
    inputs = [
        a.name in hosted and a.type != tf.resource.as_datatype_enum
        for a in definition.input_arg
        for _ in range(_count(node, a))
    ]
    outputs = [a.name for a in definition.output_arg]
    on_host = chosen is None or (outputs and hosted.issuperset(outputs))
    return (FREE if node.op in _FREE else HOST if on_host else DEVICE), inputs


def _best_kernel(node: Any, definition: Any) -> Any:
    """The registered kernel for a GPU that takes the types of a node, or None."""
    defaults = {a.name: a.default_value for a in definition.attr}
    fitting = [
        kernel
        for kernel in _gpu_kernels(node.op)
        if all(
            (node.attr[c.name] if c.name in node.attr else defaults[c.name]).type
            in c.allowed_values.list.type
            for c in kernel.constraint
        )
    ]
    return max(fitting, key=lambda kernel: kernel.device_type == "GPU", default=None)


@functools.cache
def _gpu_kernels(op: str) -> list[Any]:
    registered = kernels.get_registered_kernels_for_op(op).kernel
    return [k for k in registered if k.device_type in ("GPU", "DEFAULT")]


def _only_adds_axes(nodes: dict, node: Any) -> bool:
    """Whether a slice takes all that there is, so that nothing is copied."""
    begin = nodes.get(_node(node.input[1])) if node.op == "StridedSlice" else None
    if begin is None or begin.op != "Const":
        return False
    masks = {name: node.attr[f"{name}_mask"].i for name in ("begin", "end", "ellipsis", "new_axis")}
    whole = masks["begin"] & masks["end"] | masks["ellipsis"] | masks["new_axis"]
    count = tf.make_ndarray(begin.attr["value"].tensor).size
    return whole == 2**count - 1 and not node.attr["shrink_axis_mask"].i


def _count(node: Any, argument: Any) -> int:
    """Tensors of one argument of an operation."""
    if argument.number_attr:
        return node.attr[argument.number_attr].i
    return len(node.attr[argument.type_list_attr].list.type) if argument.type_list_attr else 1


def _type(node: Any) -> tf.DType | None:
    types = [node.attr[n].type for n in _TYPES if n in node.attr]
    return tf.as_dtype(types[0]) if types and types[0] else None


def _node(tensor: str) -> str:
    """The node of an input of another one."""
    return tensor.removeprefix("^").partition(":")[0]


def _flag(data: dict[str, bool], tensor: str) -> bool:
    tensor = tensor.removesuffix(":0")
    return data.get(tensor, data.get(_node(tensor), True))
