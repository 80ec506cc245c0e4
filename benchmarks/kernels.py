"""How many kernels a step launches on a machine with a GPU, by part; no GPU is needed for that.

`python -m benchmarks.kernels --exp Long_term_DiffuMIN` builds the graphs of a training step and of
scoring as on such a machine and looks up in TensorFlow's registry where each node would run.
"""

import argparse
import collections
import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import tensorflow as tf

from benchmarks.graphs import DEVICE, HOST, Executed, executed
from benchmarks.measuring import table
from benchmarks.samples import batch_spec
from benchmarks.settings import LONG_TERM
from diffumin_tf import devices, history
from diffumin_tf.config import task as config_lib
from diffumin_tf.config.schema import DataStruct
from diffumin_tf.input.batch import open_ended
from diffumin_tf.model import RankingModel
from diffumin_tf.run.find import find_experiment
from diffumin_tf.training import optimizers
from diffumin_tf.training.one_cluster import OneCluster

# Training with one GPU, with several, and scoring as an evaluation does it.
ONE_CLUSTER, BY_PARTS, SCORING = KINDS = ("training", "training by parts", "scoring")
_SAMPLES = 64  # of a batch; its size changes no count
_ROWS = 2000  # of the table
_CLUSTERS = "clusters"
_OTHER = "other"
_SCOPE = "part_"


def parts_of(model: RankingModel) -> dict[str, tuple[Any, str]]:
    """The parts of a model with one DiffuMIN unit: an object each, and its function."""
    (unit,) = model.units
    return {
        "scan": (model.embedding, "scan"),
        "choose": (history, "best_of"),
        "lookup": (model.embedding, "call"),
        "channels": (unit._extract, "channels_of"),
        "aggregate": (unit._extract, "aggregate"),
        "summary": (unit._summarise, "call"),
        "draw": (unit._generate, "draw"),
        "dmig": (unit._generate, "call"),
        "sampling": (unit._generate, "_sample"),
        "diffusion": (unit._generate, "_errors"),
        "cmic": (unit._calibrate, "call"),
        "short": (unit, "_encode"),
        "dense": (unit._dense_norm, "call"),
        "tower": (model, "_run_tower"),
        "loss": (model, "click_loss"),
        "auc": (model.auc, "update_state"),
        "adam": (model.optimizer, "apply_gradients"),
        "adagrad": (model.table_optimizer, "apply_gradients"),
    }


def of_step(kind: str, exp: str = LONG_TERM, overrides: Sequence[str] = ()) -> list[Executed]:
    """What a step of the product executes where there is one GPU, with a table of few rows.

    Args:
        kind: of `KINDS`.
        exp: experiment under `exp/user1`.
        overrides: `key=value` texts, as for `diffumin train --set`.
    """
    with mock.patch("diffumin_tf.devices.gpus", lambda: 1):
        overrides = ['embedding.kind="hash"', f"embedding.rows={_ROWS}", *overrides]
        config = devices.with_defaults(config_lib.load(find_experiment(exp), overrides)[0])
        schema = DataStruct.load(f"{find_experiment(exp)}/data_struct.json")
        model = RankingModel(config, schema, _ROWS)
        model.create_weights()
        model.compile(*optimizers.build(config))
        batch = batch_spec(model.layout, lengths=config.length_buckets)
        with _named(parts_of(model)):
            if kind == ONE_CLUSTER:
                return executed(OneCluster(model, _SAMPLES).update, batch)
            if kind == BY_PARTS:
                return executed(model.update, batch)
            return executed(model.predict_click, open_ended(batch))


def by_part(nodes: Sequence[Executed]) -> dict[str, dict[str, int]]:
    """Kernels on the device and on the host, and clusters of XLA, of each part.

    What is in a cluster is not counted.
    """
    parts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    clusters = {}
    for node in nodes:
        if node.cluster:
            clusters.setdefault(node.cluster, part_of(node))
        else:
            parts[part_of(node)][node.where] += node.times
    for part in clusters.values():
        parts[part][_CLUSTERS] += 1
    columns = (DEVICE, HOST, _CLUSTERS)
    counted = {name: {c: part[c] for c in columns} for name, part in sorted(parts.items())}
    return {name: part for name, part in counted.items() if any(part.values())}


def part_of(node: Executed) -> str:
    """The part that a node belongs to, or whose gradient it computes."""
    named = re.findall(rf"{_SCOPE}([a-z]+)", node.scopes)
    return named[-1] if named else _OTHER


def waiting(nodes: Sequence[Executed]) -> dict[str, int]:
    """Data that the host must have: how many inputs of which kind of node, by `part op type`."""
    waits: collections.Counter = collections.Counter()
    for node in nodes:
        if node.awaits and not node.cluster:
            kind = node.type.name if node.type else ""
            waits[f"{part_of(node)} {node.op} {kind}".strip()] += len(node.awaits) * node.times
    return dict(sorted(waits.items()))


def tables(kind: str, exp: str, overrides: Sequence[str]) -> list[str]:
    """The counts of a kind of step as text."""
    nodes = of_step(kind, exp, overrides)
    parts = by_part(nodes)
    total = {c: sum(part[c] for part in parts.values()) for c in (DEVICE, HOST, _CLUSTERS)}
    rows = [[name, *part.values()] for name, part in {**parts, "all": total}.items()]
    header = ["part", "on the GPU", "on the host", "clusters of XLA"]
    waits = [[kind, count] for kind, count in waiting(nodes).items()]
    return [
        table(f"{kind}, {exp}: kernels outside of clusters", header, rows),
        table(
            f"{kind}: what the host must know of data or has to compute", ["for", "times"], waits
        ),
    ]


@contextlib.contextmanager
def _named(parts: dict[str, tuple[Any, str]]) -> Iterator[None]:
    """What the functions add to a graph has the part in its name."""

    def named(part: str, function: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            with tf.name_scope(_SCOPE + part):
                return function(*args, **kwargs)

        return call

    with contextlib.ExitStack() as stack:
        for part, (owner, name) in parts.items():
            # Not setattr, by which Keras would forget a layer that hides behind the name.
            new = {name: named(part, getattr(owner, name))}
            stack.enter_context(mock.patch.dict(vars(owner), new))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exp", default=LONG_TERM, help="experiment under exp/user1")
    parser.add_argument("--set", action="append", default=[], help="key=value of the config")
    flags = parser.parse_args()
    for kind in KINDS:
        print("\n".join(tables(kind, flags.exp, flags.set)), flush=True)


if __name__ == "__main__":
    main()
